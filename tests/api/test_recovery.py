"""Mailed tokens: another password, a verified address, and what a stranger learns: nothing."""

from __future__ import annotations

import smtplib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask_openapi import OpenAPI
from sqlalchemy import update
from werkzeug.test import TestResponse

from app.db import migrate
from app.db.models import Account, MailedToken
from app.services.mail import Mail, SmtpMailer
from tests.api.conftest import MakeApp
from tests.api.people import PASSWORD, Person, json_of
from tests.support.database import column
from tests.support.mail_server import Mailbox, mail_server, text_of
from tests.support.waiting import eventually

RESET, VERIFY = "another password", "your address"
NEW = "battery staple"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with mail_server() as found:
        yield found


@pytest.fixture
def mailing(make_app: MakeApp, database_url: str, mailbox: Mailbox) -> OpenAPI:
    """The application on each kind of database in turn, with a mail server."""
    migrate.upgrade(database_url)
    return make_app(DATABASE_URL=database_url, SMTP_URL=mailbox.url, MAIL_FROM="tf@example.org")


@pytest.fixture
def quick(make_app: MakeApp, ready_url: str, mailbox: Mailbox) -> OpenAPI:
    """The same on SQLite alone."""
    return make_app(DATABASE_URL=ready_url, SMTP_URL=mailbox.url)


def send(app: OpenAPI, method: str, path: str, **body: str) -> TestResponse:
    return app.test_client().open(f"/api/v1/accounts/{path}", method=method, json=body)


def asked(app: OpenAPI, mailbox: Mailbox, email: str) -> str:
    """The token of a reset that was asked for."""
    assert send(app, "POST", "password-reset", email=email).status_code == 204
    return mailbox.token(email, RESET)


def aged(app: OpenAPI, **columns: Any) -> None:
    """Every mailed token as if it had been made long ago."""
    with app.extensions["taskflow"].db.write() as session:
        session.execute(update(MailedToken).values(**columns))


def test_a_mailed_token_sets_another_password_once_and_ends_every_session(
    mailing: OpenAPI, mailbox: Mailbox
) -> None:
    ann, bob = Person(mailing, "ann"), Person(mailing, "bob")
    personal = json_of(ann.post("/access-tokens", {"name": "b", "scopes": ["read"]}))["token"]
    assert send(mailing, "POST", "password-reset", email=" ANN@example.com ").status_code == 204
    token = mailbox.token(ann.email, RESET)
    assert mailbox.to(ann.email, RESET)[0]["From"] == "tf@example.org"
    assert token not in str(column(ann.container.db, MailedToken.token_hash))
    assert send(mailing, "PUT", "password-reset", token=token, password=NEW).status_code == 204
    assert (ann.get("/accounts/me").status_code, bob.get("/accounts/me").status_code) == (401, 200)
    by_personal = ann.get("/projects", headers={"Authorization": f"Bearer {personal}"})
    assert by_personal.status_code == 401
    for password, status in ((PASSWORD, 401), (NEW, 201)):
        who = {"email": ann.email, "password": password}
        answer = mailing.test_client().post("/api/v1/sessions", json=who)
        assert answer.status_code == status
    assert json_of(answer)["account"]["email_verified_at"]
    again = send(mailing, "PUT", "password-reset", token=token, password=PASSWORD)
    assert (again.status_code, json_of(again)["errors"][0]["field"]) == (422, "token")


def test_an_address_is_verified_by_what_a_registration_mails_and_once(
    mailing: OpenAPI, mailbox: Mailbox
) -> None:
    ann = Person(mailing, "ann")
    assert json_of(ann.get("/accounts/me"))["email_verified_at"] is None
    token = mailbox.token(ann.email, VERIFY)
    assert send(mailing, "PUT", "password-reset", token=token, password=NEW).status_code == 422
    assert [send(mailing, "PUT", "verification", token=token).status_code for _ in range(2)] == [
        204,
        422,
    ]
    verified = json_of(ann.get("/accounts/me"))["email_verified_at"]
    assert verified.endswith("Z")
    assert ann.post("/accounts/me/verification").status_code == 204  # and no mail: see below
    asked(mailing, mailbox, ann.email)
    assert len(mailbox.to(ann.email, VERIFY)) == 1


def test_a_stranger_learns_neither_by_text_nor_by_status_who_has_an_account(
    quick: OpenAPI, mailbox: Mailbox
) -> None:
    ann = Person(quick, "ann")
    answers = [
        send(quick, "POST", "password-reset", email=email)
        for email in (ann.email, "nobody@example.com", "not-an-address", "")
    ]
    assert {(each.status_code, each.data) for each in answers} == {(204, b"")}
    assert mailbox.token(ann.email, RESET)
    ann.container.post.close()
    assert len(mailbox.to("nobody@example.com")) == 0


def test_nor_by_time_because_nobody_is_looked_up_before_the_answer(
    quick: OpenAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer comes while the database is not asked: the thread that would is held back."""
    ann, held = Person(quick, "ann"), threading.Event()
    recovery = ann.container.recovery
    looked_up: list[str] = []

    def write_to(email: str) -> None:
        assert held.wait(10)
        looked_up.append(email)

    monkeypatch.setattr(recovery, "_write_to", write_to)
    for email in (ann.email, "nobody@example.com"):
        assert send(quick, "POST", "password-reset", email=email).status_code == 204
    assert looked_up == []
    held.set()
    eventually(lambda: len(looked_up) == 2, what="both looked up")


def test_a_token_is_not_good_for_ever_and_a_newer_one_takes_its_place(
    quick: OpenAPI, mailbox: Mailbox
) -> None:
    ann, long_ago = Person(quick, "ann"), datetime.now(UTC) - timedelta(minutes=2)
    first = asked(quick, mailbox, ann.email)
    aged(quick, created_at=long_ago)
    assert send(quick, "POST", "password-reset", email=ann.email).status_code == 204
    second = mailbox.token(ann.email, RESET, number=2)
    put = {"method": "PUT", "path": "password-reset", "password": NEW}
    assert send(quick, token=first, **put).status_code == 422
    aged(quick, expires_at=long_ago)
    assert send(quick, token=second, **put).status_code == 422
    aged(quick, expires_at=datetime.now(UTC) + timedelta(minutes=2))
    assert send(quick, token=second, **put).status_code == 204


def test_a_refused_password_does_not_use_the_token_up(quick: OpenAPI, mailbox: Mailbox) -> None:
    ann = Person(quick, "ann")
    token = asked(quick, mailbox, ann.email)
    refused = send(quick, "PUT", "password-reset", token=token, password="Password1!")
    assert (refused.status_code, json_of(refused)["errors"][0]["field"]) == (422, "password")
    assert send(quick, "PUT", "password-reset", token=token, password=NEW).status_code == 204


def test_nobodys_mailbox_is_filled_and_no_disabled_account_gets_mail(
    quick: OpenAPI, mailbox: Mailbox
) -> None:
    ann, bob = Person(quick, "ann"), Person(quick, "bob")
    with bob.container.db.write() as session:
        disabled = update(Account).where(Account.email == bob.email)
        session.execute(disabled.values(disabled_at=datetime.now(UTC)))
    for _ in range(3):
        for person in (ann, bob):
            answer = send(quick, "POST", "password-reset", email=person.email)
            assert answer.status_code == 204
    ann.container.post.close()
    assert [len(mailbox.to(each.email, RESET)) for each in (ann, bob)] == [1, 0]


def test_asking_and_guessing_are_limited_as_a_log_in_is(make_app: MakeApp, ready_url: str) -> None:
    app = make_app(DATABASE_URL=ready_url, RATE_LIMIT_LOGIN="3/minute")
    asking = [send(app, "POST", "password-reset", email="a@example.com") for _ in range(2)]
    guessing = [send(app, "PUT", "verification", token="x") for _ in range(2)]
    assert [each.status_code for each in asking + guessing] == [204, 204, 422, 429]


def test_without_a_mail_server_the_mail_is_in_the_log_and_in_production_its_token_is_not(
    make_app: MakeApp, ready_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for settings in ({}, {"APP_ENV": "production", "SECRET_KEY": "k" * 32}):
        app = make_app(DATABASE_URL=ready_url, **settings)
        name = "ann" if not settings else "bob"
        Person(app, name).container.post.close()
        told = capfd.readouterr().err
        assert ("Confirm that this address" in told) == (not settings)
        assert ("SMTP_URL is not set" in told) == bool(settings)


def test_a_mail_server_that_is_away_delays_nobody_and_the_next_mail_is_sent(
    quick: OpenAPI, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = Person(quick, "ann")
    mailbox.token(ann.email, VERIFY)
    gone = SmtpMailer("smtp://127.0.0.1:1", sender="tf@example.org", timeout_s=1)
    post, there = ann.container.post, ann.container.post._mailer
    monkeypatch.setattr(post, "_mailer", gone)
    assert send(quick, "POST", "password-reset", email=ann.email).status_code == 204
    eventually(lambda: column(ann.container.db, MailedToken.purpose) == ["reset", "verify"])
    eventually(lambda: post._waiting.empty() and _is_idle(post), what="the failed mail")
    monkeypatch.setattr(post, "_mailer", there)
    aged(quick, created_at=datetime.now(UTC) - timedelta(minutes=2))
    assert "good once" in text_of_next(quick, mailbox, ann.email)


def test_a_password_for_the_mail_server_is_never_sent_in_the_clear(mailbox: Mailbox) -> None:
    """The server offers no STARTTLS: somebody between might have taken the offer out."""
    mail = Mail("ann@example.com", "s", "t")
    open_url = mailbox.url.replace("//", "//user:secret@")
    with pytest.raises(smtplib.SMTPNotSupportedError):
        SmtpMailer(open_url, sender="tf@example.org").send(mail)
    assert mailbox.to("ann@example.com") == []
    SmtpMailer(mailbox.url, sender="tf@example.org").send(mail)
    assert len(mailbox.to("ann@example.com")) == 1


def _is_idle(post: Any) -> bool:
    done = threading.Event()
    post.hand_in(done.set)
    return done.wait(10)


def text_of_next(app: OpenAPI, mailbox: Mailbox, email: str) -> str:
    asked(app, mailbox, email)
    return text_of(mailbox.to(email, RESET)[0])
