"""Limits by plan and role: kept in the database, known to every process within a second."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from uuid import uuid4

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app.db.engine import Database
from app.errors import InvalidInput, NotFound
from app.services.actor import Actor
from app.services.limit_rules import Budget, LimitRules, Rule
from tests.services.conftest import World
from tests.support.database import migrated
from tests.support.postgres import PostgresServer
from tests.support.waiting import eventually

BIG = Rule("plan:big", "reads", "900/minute;9/second")


class Watched(LimitRules):
    """Counts how often the database was asked, whether or not it answered."""

    read = 0

    def all(self) -> list[Rule]:
        self.read += 1
        return super().all()


@contextmanager
def _opened(database: Database) -> Iterator[Watched]:
    rules = Watched(database)
    yield rules
    rules.close()


Opening = Callable[[Database], Watched]


@pytest.fixture
def opening() -> Iterator[Opening]:
    """New rules on a database, each with a copy of its own as one process has."""
    with ExitStack() as stack:
        yield lambda database: stack.enter_context(_opened(database))


@pytest.fixture
def rules(world: World, opening: Opening) -> LimitRules:
    return opening(world.db)


def actor(plan: str = "big", role: str = "user") -> Actor:
    return Actor(account_id=uuid4(), session_id=None, role=role, plan=plan)


def known(rules: LimitRules, who: Actor | None, budget: Budget, limits: str | None) -> None:
    """Wait until this copy says so."""
    eventually(lambda: rules.limits_of(who, budget) == limits, what=f"{limits} in force")


def test_rules_are_listed_by_subject_and_budget(rules: LimitRules) -> None:
    admin = Rule("role:admin", "reads", "5000/minute")
    writes = Rule("plan:big", "writes", "100/minute exact shadow")
    for each in (admin, writes, BIG):
        rules.set(each)
    assert rules.all() == [BIG, writes, admin]


def test_a_rule_is_replaced_by_one_of_the_same_subject_and_budget(rules: LimitRules) -> None:
    rules.set(BIG)
    other = BIG._replace(limits="1/hour")
    rules.set(other)
    assert rules.all() == [other]


def test_a_rule_is_removed_once(rules: LimitRules) -> None:
    rules.set(BIG)
    with pytest.raises(NotFound):
        rules.unset("plan:big", "writes")
    rules.unset("plan:big", "reads")
    assert rules.all() == []
    with pytest.raises(NotFound):
        rules.unset("plan:big", "reads")


@pytest.mark.parametrize(
    "subject", ["big", "plan:", "plan:Big", "plan:-x", "plan:" + "x" * 33, "role:boss", "plan:a b"]
)
def test_a_subject_that_cannot_be_is_refused(rules: LimitRules, subject: str) -> None:
    with pytest.raises(InvalidInput, match="A rule is for role:"):
        rules.set(BIG._replace(subject=subject))
    assert rules.all() == []


@pytest.mark.parametrize("budget", ["login", "login-account", "reeds", ""])
def test_a_budget_without_rules_is_refused(rules: LimitRules, budget: str) -> None:
    with pytest.raises(InvalidInput, match="reads, writes, batch"):
        rules.set(BIG._replace(budget=budget))


@pytest.mark.parametrize(
    "limits",
    [
        "",
        "many",
        "0/minute",
        "5/fortnight",
        "5/minute;",
        "5/minute loud",
        "-1/minute",
        "5/hour;5/hour exact",
    ],
)
def test_limits_that_are_none_are_refused(rules: LimitRules, limits: str) -> None:
    with pytest.raises(InvalidInput, match="Limits are limits joined by ';'"):
        rules.set(BIG._replace(limits=limits))


def test_limits_longer_than_their_column_are_refused(rules: LimitRules) -> None:
    limits = ";".join(f"{100_000 + number}/minute" for number in range(40))
    longest = limits[:500].rpartition(";")[0]
    rules.set(BIG._replace(limits=longest))
    with pytest.raises(InvalidInput, match="at most 500 characters"):
        rules.set(BIG._replace(limits=limits))
    assert rules.all() == [BIG._replace(limits=longest)]


def test_a_roles_rule_goes_before_a_plans_and_both_before_the_settings(rules: LimitRules) -> None:
    rules.set(BIG)
    rules.set(Rule("role:admin", "reads", "1/minute"))
    assert rules.limits_of(actor(), Budget.READS) == BIG.limits
    assert rules.limits_of(actor(role="admin"), Budget.READS) == "1/minute"
    assert rules.limits_of(actor(plan="standard", role="admin"), Budget.READS) == "1/minute"
    assert rules.limits_of(actor(plan="standard"), Budget.READS) is None
    assert rules.limits_of(actor(), Budget.WRITES) is None
    assert rules.limits_of(None, Budget.READS) is None


def test_another_processes_copy_takes_a_rule_up_by_itself(
    world: World, rules: LimitRules, opening: Opening
) -> None:
    other = opening(world.db)
    assert other.limits_of(actor(), Budget.READS) is None
    rules.set(BIG)
    known(other, actor(), Budget.READS, BIG.limits)
    rules.set(BIG._replace(limits="2/minute"))
    known(other, actor(), Budget.READS, "2/minute")
    rules.unset("plan:big", "reads")
    known(other, actor(), Budget.READS, None)


def test_no_thread_runs_before_the_first_request(rules: LimitRules) -> None:
    def threads() -> set[threading.Thread]:
        return {each for each in threading.enumerate() if each.name == "limit-rules"}

    before = threads()
    rules.set(BIG)
    rules.all()
    assert threads() == before
    for _ in range(3):
        rules.limits_of(actor(), Budget.READS)
    assert len(threads() - before) == 1


def test_without_the_database_the_last_copy_holds(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    with migrated(postgres_url) as database, _opened(database) as rules, _opened(database) as fresh:
        rules.set(BIG)
        assert rules.limits_of(actor(), Budget.READS) == BIG.limits
        postgres_server.kill()
        tried = rules.read
        eventually(lambda: rules.read >= tried + 2, what="two turns without a database")
        assert rules.limits_of(actor(), Budget.READS) == BIG.limits
        assert fresh.limits_of(actor(), Budget.READS) is None  # it knows the settings alone
        postgres_server.restart()
        known(fresh, actor(), Budget.READS, BIG.limits)
        rules.set(BIG._replace(limits="2/minute"))
        known(rules, actor(), Budget.READS, "2/minute")


def test_a_copy_that_cannot_be_read_is_logged_and_asked_for_again(
    world: World, rules: LimitRules
) -> None:
    rules.set(BIG)
    _rename(world.db, "limits", "bounds")
    with capture_logs() as logs:
        assert rules.limits_of(actor(), Budget.READS) is None
        assert {line["event"] for line in logs} == {"limit_rules.not_read"}
    _rename(world.db, "bounds", "limits")
    known(rules, actor(), Budget.READS, BIG.limits)


def test_once_closed_the_copy_is_renewed_no_more(sqlite_world: World, opening: Opening) -> None:
    rules, other = (opening(sqlite_world.db) for _ in range(2))
    for each in (rules, other):
        each.limits_of(actor(), Budget.READS)
    rules.close()

    def turns(count: int) -> int:
        """Wait for so many turns of the other; returns how often the closed one has asked."""
        asked = other.read
        eventually(lambda: other.read >= asked + count, what="turns of the other")
        return rules.read

    assert turns(2) == turns(2)


def _rename(db: Database, column: str, name: str) -> None:
    with db.write() as session:
        session.execute(text(f"ALTER TABLE limit_rules RENAME COLUMN {column} TO {name}"))
