"""Limits by plan and role: kept in the database, known to every process within a second.

A rule says what a plan or a role may use of a budget, in place of what the settings say; a role's
goes before a plan's. Requests ask this process's copy, which a thread of its own renews: no request
waits for it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import structlog
from sqlalchemy import delete, select

from app.config import Settings
from app.config_values import LIMITS_TAKES, limit_list
from app.coordination import forks
from app.coordination.ticker import Ticker
from app.db.engine import Database
from app.db.enums import Role
from app.db.models import LimitRule
from app.db.types import db_now
from app.errors import DatabaseUnavailable, InvalidInput, NotFound
from app.services.actor import Actor

RENEW_S = 0.5
_MOST_CHARACTERS = 500  # of the column
_SUBJECT = re.compile(r"plan:[a-z0-9][a-z0-9_-]{0,31}")
_log = structlog.get_logger(__name__)


class Budget(StrEnum):
    """What a request draws on. `RULED`: those that plans and roles may have rules for."""

    READS = "reads"
    WRITES = "writes"
    BATCH = "batch"
    LOGIN = "login"
    LOGIN_ACCOUNT = "login-account"


RULED = (Budget.READS, Budget.WRITES, Budget.BATCH)


def limits_of_settings(settings: Settings) -> Mapping[Budget, str]:
    """What holds for everybody: of each budget its setting, `limit_<name>`."""
    return {budget: getattr(settings, f"limit_{budget.name.lower()}") for budget in Budget}


class Rule(NamedTuple):
    """`subject`: `plan:<name>` or `role:<name>`; `limits`: as the settings write them."""

    subject: str
    budget: str
    limits: str


class LimitRules:
    """The rules, and this process's copy of them."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._ticker = Ticker("limit-rules")
        self._closed = False
        self.begin_afresh()
        forks.in_child(self)

    def begin_afresh(self) -> None:
        """With no copy, so that the first request reads one and begins to renew it."""
        self._lock = threading.Lock()
        self._copy: Mapping[tuple[str, str], str] | None = None

    def limits_of(self, actor: Actor | None, budget: Budget) -> str | None:
        """The limits that a rule gives to the actor; None where the settings' hold."""
        copy = self._copy
        if copy is None:
            copy = self._begin()
        if actor is None or not copy:
            return None
        return copy.get((f"role:{actor.role}", budget)) or copy.get((f"plan:{actor.plan}", budget))

    def all(self) -> list[Rule]:
        """Every rule, as the database has it, by subject and budget.

        Raises:
            DatabaseUnavailable: it is away.
        """
        in_order = select(LimitRule).order_by(LimitRule.subject, LimitRule.budget)
        with self._db.read() as session:
            found = session.scalars(in_order).all()
            return [Rule(each.subject, each.budget, each.limits) for each in found]

    def set(self, rule: Rule) -> None:
        """Store a rule in place of one of the same subject and budget.

        Raises:
            InvalidInput: a subject, budget or text that cannot be.
        """
        check_subject(rule.subject)
        _check_budget(rule.budget)
        _check_limits(rule.limits)
        with self._db.write() as session:
            session.merge(LimitRule(**rule._asdict(), updated_at=session.scalar(select(db_now()))))

    def unset(self, subject: str, budget: str) -> None:
        """Remove a rule: the settings hold again.

        Raises:
            NotFound: there is none.
        """
        mine = (LimitRule.subject == subject, LimitRule.budget == budget)
        with self._db.write() as session:
            if not session.scalar(delete(LimitRule).where(*mine).returning(LimitRule.subject)):
                raise NotFound("limit rule")

    def close(self) -> None:
        """Read no more; a reading under way is over then. Before the database's own end."""
        with self._lock:
            self._closed = True

    def _begin(self) -> Mapping[tuple[str, str], str]:
        """The first request reads; from then on a thread does. None is started before a fork."""
        with self._lock:
            if self._copy is None:
                self._copy = {}
                if not self._closed:
                    self._renew()
                    self._ticker.add(time.monotonic() + RENEW_S, self._turn)
            return self._copy

    def _turn(self) -> float | None:
        with self._lock:
            if self._closed:
                return None
            self._renew()
        return time.monotonic() + RENEW_S

    def _renew(self) -> None:
        """Without a database the last copy stands."""
        try:
            rules: Sequence[Rule] = self.all()
        except DatabaseUnavailable:
            return
        except Exception:  # or this process would never ask again
            _log.exception("limit_rules.not_read")
            return
        self._copy = {(rule.subject, rule.budget): rule.limits for rule in rules}


def check_subject(subject: str) -> None:
    """Raises InvalidInput for what is neither a role nor a plan's name."""
    roles = [f"role:{role}" for role in Role]
    if subject not in roles and not _SUBJECT.fullmatch(subject):
        takes = f"{', '.join(roles)} or plan:<name> of up to 32 letters, digits, - and _"
        raise InvalidInput(f"A rule is for {takes}, not {subject!r}.")


def _check_limits(limits: str) -> None:
    try:
        limit_list(limits)
    except ValueError:
        raise InvalidInput(f"Limits are {LIMITS_TAKES}, not {limits!r}.") from None
    if len(limits) > _MOST_CHARACTERS:
        raise InvalidInput(f"Limits are at most {_MOST_CHARACTERS} characters.")


def _check_budget(budget: str) -> None:
    if budget not in RULED:
        raise InvalidInput(f"A rule is for one of {', '.join(RULED)}, not {budget!r}.")
