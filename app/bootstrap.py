"""The one composition root: web, scheduler and commands all build their parts here.

Adding a part: construct it in `build`, give it a field in `Container`, and hand it what it needs
through its constructor. Nothing connects to Redis or the database before it is first used.
"""

from __future__ import annotations

import contextvars
import os
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from argon2 import PasswordHasher

from app import logs
from app.config import Settings
from app.coordination import deployment, forks, purposes
from app.coordination.absent import Scripting
from app.coordination.cache import RedisCache
from app.coordination.cache_calls import meta_ttl_ms
from app.coordination.cron import CronClaims
from app.coordination.deny_memo import DenyMemo
from app.coordination.fleet import Fleet
from app.coordination.gate import Gate
from app.coordination.local_cache import LocalCache, current_visit
from app.coordination.lock import LockService
from app.coordination.lock_store import LockStore, PrimaryStore
from app.coordination.memory_cache import MemoryCache
from app.coordination.memory_rates import MemoryRates
from app.coordination.rate_limit import OnLoss, RedisRates
from app.coordination.rates import Rates
from app.coordination.redlock import Redlock
from app.coordination.scripts import ScriptRegistry
from app.db.engine import Database
from app.metrics import Metrics
from app.services.access_tokens import AccessTokenService
from app.services.accounts import AccountService
from app.services.admin import AdminService
from app.services.changes import Changes
from app.services.committed_cache import CommittedCache
from app.services.export import ExportService
from app.services.history import HistoryService
from app.services.idempotency import Idempotency
from app.services.imports import ImportService
from app.services.invitations import InvitationService
from app.services.issuing import Lifetimes
from app.services.limit_rules import LimitRules
from app.services.mail import LogMailer, Mailer, SmtpMailer
from app.services.members import MemberService
from app.services.own_account import OwnAccountService
from app.services.passwords import Passwords
from app.services.ports import Cache
from app.services.post import Post
from app.services.projects import ProjectService
from app.services.recovery import RecoveryService
from app.services.refresh import RefreshService
from app.services.relay import Relay
from app.services.sessions import SessionService
from app.services.stats import StatsService
from app.services.sweep import SweepService
from app.services.tasks import TaskService
from app.services.tokens import Tokens

_REACH_S = 0.5


@dataclass(frozen=True, slots=True)
class Container:
    """The parts of one process. `identity` is its label, process id and a nonce."""

    settings: Settings
    identity: str
    metrics: Metrics
    scripts: ScriptRegistry
    redis: purposes.Purposes
    db: Database
    locks: LockService
    claims: CronClaims
    rates: Rates
    fleet: Fleet
    limit_rules: LimitRules
    cache: Cache
    shared: RedisCache | None
    gate: Gate
    changes: Changes
    idempotency: Idempotency
    relay: Relay
    accounts: AccountService
    own_account: OwnAccountService
    export: ExportService
    post: Post
    recovery: RecoveryService
    sessions: SessionService
    refresh: RefreshService
    access_tokens: AccessTokenService
    admin: AdminService
    tokens: Tokens
    projects: ProjectService
    members: MemberService
    invitations: InvitationService
    tasks: TaskService
    history: HistoryService
    stats: StatsService
    imports: ImportService
    sweep: SweepService

    def health_of_redis(self) -> list[Mapping[str, str]]:
        """For each purpose its name, status and detail; empty where no Redis is configured."""
        return purposes.health(self.redis, self.scripts) if self.settings.has_redis else []

    def health_of_outbox(self) -> list[Mapping[str, str]]:
        """Whether this process may believe what is cached; empty where nothing is shared."""
        return [self.relay.health()] if self.shared else []

    def reach_redis(self) -> None:
        """At a process's start: find Redis and load every script on every node.

        In the background, because a hung server must not delay the start; waited for a moment,
        because the first requests are better off with it.
        """
        bound = contextvars.copy_context()  # what the logs say of this instance
        thread = threading.Thread(target=bound.run, args=(self._reach_redis,), daemon=True)
        thread.start()
        thread.join(_REACH_S)

    def _reach_redis(self) -> None:
        for client in self.redis:
            client.find()
        deployment.load_at_start(self.settings, self.scripts)

    def close(self) -> None:
        """End in order: what uses Redis or the database in the background, and then these.

        Again does nothing. A request that is still under way is answered, with new connections
        where it needs some.
        """
        self.post.close()
        self.relay.close()
        self.fleet.leave()
        self.limit_rules.close()
        self.redis.close()
        self.db.close()


def build(settings: Settings) -> Container:
    """Build every part of a process.

    Raises:
        ConfigError: for a database URL that cannot serve.
        ScriptContractError: a Lua file's name says no script.
    """
    identity = f"{settings.label}:{os.getpid()}:{secrets.token_hex(4)}"
    logs.configure(settings.log_level, instance=identity)
    metrics = Metrics(multiprocess_folder=settings.prometheus_multiproc_dir)
    scripts = ScriptRegistry.from_folder()
    redis = purposes.build(settings, metrics)
    db = Database(
        settings.database_url,
        pool_size=settings.db_pool_size,
        pool_timeout_ms=settings.db_pool_timeout_ms,
        on_retry=metrics.db_retries.inc,
    )
    forks.in_child(db)
    gate = Gate()
    shared = _shared_cache(settings, redis.cache, scripts, metrics, gate)
    cache: Cache = shared or MemoryCache()
    changes = Changes(db, cache, gate)
    passwords = Passwords(PasswordHasher(), at_once=settings.passwords_at_once)
    post = Post(_mailer(settings))
    recovery = RecoveryService(db, changes, passwords, post)
    accounts = AccountService(
        db, changes, passwords, settings.session_ttl_s, settings.access_ttl_s, greet=recovery.greet
    )
    committed = CommittedCache(db, cache)
    local = shared.local if shared else None
    fleet = Fleet(redis.limiter, scripts, identity=identity)
    return Container(
        settings=settings,
        identity=identity,
        metrics=metrics,
        scripts=scripts,
        redis=redis,
        db=db,
        locks=LockService(_lock_store(redis, scripts, holder=identity), metrics),
        claims=CronClaims(redis.lock, scripts, holder=identity),
        rates=_rates(settings, redis.limiter, scripts, fleet),
        fleet=fleet,
        limit_rules=LimitRules(db),
        cache=cache,
        shared=shared,
        gate=gate,
        changes=changes,
        idempotency=Idempotency(db, changes),
        relay=Relay(db, shared, changes, gate, metrics, entry_ttl_s=settings.cache_ttl_s),
        accounts=accounts,
        own_account=OwnAccountService(db, changes, passwords),
        export=ExportService(db),
        post=post,
        recovery=recovery,
        sessions=SessionService(db, changes),
        refresh=RefreshService(
            db, changes, Lifetimes.of(settings.session_ttl_s, settings.access_ttl_s)
        ),
        access_tokens=AccessTokenService(db, changes),
        admin=AdminService(db, changes),
        tokens=Tokens(accounts, local, gate),
        projects=ProjectService(db, changes),
        members=MemberService(db, changes),
        invitations=InvitationService(db, changes),
        tasks=TaskService(db, changes, committed),
        history=HistoryService(db),
        stats=StatsService(db, committed),
        imports=ImportService(db, changes),
        sweep=SweepService(changes),
    )


def _mailer(settings: Settings) -> Mailer:
    if settings.smtp_url:
        return SmtpMailer(settings.smtp_url, sender=settings.mail_from)
    return LogMailer(shows_text=settings.app_env == "development")


def _rates(settings: Settings, client: Scripting, scripts: ScriptRegistry, fleet: Fleet) -> Rates:
    if not settings.has_redis:
        return MemoryRates()
    rates = RedisRates(
        client,
        scripts,
        on_loss=OnLoss(settings.limits_on_loss),
        fleet_size=lambda: fleet.size,
        beside=(lambda: None) if settings.cache_redis_url else current_visit,
    )
    return DenyMemo(rates)


def _lock_store(redis: purposes.Purposes, scripts: ScriptRegistry, *, holder: str) -> LockStore:
    if not redis.lock_servers:
        return PrimaryStore(redis.lock, scripts, holder=holder)
    return Redlock([PrimaryStore(each, scripts, holder=holder) for each in redis.lock_servers])


def _shared_cache(
    settings: Settings, client: Scripting, scripts: ScriptRegistry, metrics: Metrics, gate: Gate
) -> RedisCache | None:
    if not settings.has_redis:
        return None
    return RedisCache(
        client,
        scripts,
        metrics,
        ttl_s=settings.cache_ttl_s,
        fallback=MemoryCache(),
        local=LocalCache(
            scripts["cache_sync.v2"],
            meta_ttl_ms=meta_ttl_ms(settings.cache_ttl_s),
            on_bytes=metrics.cache_l1_bytes.set,
        ),
        gate=gate,
        clustered=settings.redis_mode == "cluster" and not settings.cache_redis_url,
    )
