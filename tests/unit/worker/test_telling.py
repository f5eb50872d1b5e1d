"""Webhooks from the event to the receiver: signed, in order, tried again, and never lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from labkeep.core.access import Actor
from labkeep.core.commands import Get, ItemVerb, ListAudit, UpdateProject
from labkeep.core.commands_webhooks import (
    CreateWebhook,
    GetWebhook,
    ListDeliveries,
    ListWebhooks,
    NewWebhook,
    RemoveWebhook,
    ReplayWebhook,
    RotateWebhookSecret,
    TestWebhook,
    UpdateWebhook,
)
from labkeep.core.entities import Project
from labkeep.core.errors import Forbidden, Invalid, NotFound, Unavailable
from labkeep.core.lifecycle import Status
from labkeep.core.webhooks import DELAYS_S, Delivery, verify
from labkeep.operations import Store, audits, deletions, projects, webhooks
from labkeep.server import make_worker
from labkeep.storage.master_key import MasterKey
from labkeep.testing.factories import FixedClock, make_actor, make_project, make_run, make_store
from labkeep.worker import telling


class Inbox(ThreadingHTTPServer):
    """Keeps what it gets, and answers with the next of ``answers``, then with 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"

    def events(self) -> list[str]:
        return [json.loads(body)["type"] for _, body in self.got]


class Receiver(BaseHTTPRequestHandler):
    """Writes into the inbox."""

    def do_POST(self) -> None:
        inbox = self.server
        assert isinstance(inbox, Inbox)
        body = self.rfile.read(int(self.headers["content-length"]))
        inbox.got.append((dict(self.headers.items()), body))
        self.send_response(inbox.answers.pop(0) if inbox.answers else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    server = Inbox()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    with make_store(tmp_path, clock, outgoing_allowed=("127.0.0.1",)) as store:
        yield store


@pytest.fixture
def actor(store: Store) -> Actor:
    return make_actor(store.database)


@pytest.fixture
def project(store: Store, actor: Actor) -> Project:
    return make_project(store.database, actor)


def create(store: Store, actor: Actor, url: str, *events: str) -> NewWebhook:
    return store.database.write(webhooks.create, actor, CreateWebhook(url=url, events=events))


def work(store: Store) -> None:
    """What the schedule and the worker do."""
    telling.look(store)
    make_worker(store).run_all()


def told(store: Store, actor: Actor, id: str, state: str = "") -> list[Delivery]:
    return store.database.read(webhooks.deliveries, actor, ListDeliveries(id=id, state=state)).items


def touch(store: Store, actor: Actor, project: Project) -> None:
    """Something happens to the project."""
    known = store.database.read(projects.get, actor, Get(id=project.id))
    asked = UpdateProject(id=project.id, description=known.description + "x")
    store.database.write(projects.update, actor, asked)


def test_what_happens_is_told_signed_and_as_the_audit_trail_has_it(
    store: Store, actor: Actor, project: Project, inbox: Inbox, clock: FixedClock
) -> None:
    made = create(store, actor, inbox.url, "run.*")
    run = make_run(store.database, actor, project, status=Status.finished)
    outcome = store.database.write(deletions.trash_item, actor, ItemVerb(id=run.id, reason="bad data"))
    touch(store, actor, project)
    work(store)
    ((headers, body),) = inbox.got
    verify(made.secret, headers, body, clock.now)
    message = json.loads(body)
    event = store.database.read(audits.list_, actor, ListAudit(event="run.trashed")).items[0]
    assert message["type"] == "run.trashed"
    assert message["id"] == headers["webhook-id"]
    assert message["data"]["seq"] == event.seq
    assert message["data"]["hash"] == event.hash
    assert message["data"]["deletion_id"] == outcome.deletion_id
    assert message["data"]["reason"] == "bad data"
    (delivery,) = told(store, actor, made.webhook.id)
    assert (delivery.state, delivery.attempts, delivery.status) == ("delivered", 1, 200)


def test_nothing_is_told_of_what_was_before_or_of_other_workspaces(store: Store, actor: Actor, inbox: Inbox) -> None:
    make_project(store.database, actor, "before")
    create(store, actor, inbox.url, "project.*")
    neighbour = make_actor(store.database, workspace="next door")
    touch(store, neighbour, make_project(store.database, neighbour))
    work(store)
    assert inbox.got == []


def test_a_failure_is_tried_again_later_and_then_told_once(
    store: Store, actor: Actor, project: Project, inbox: Inbox, clock: FixedClock
) -> None:
    made = create(store, actor, inbox.url, "project.*")
    inbox.answers = [500, 503]
    touch(store, actor, project)
    work(store)
    work(store)
    assert len(inbox.got) == 1
    clock.advance(seconds=DELAYS_S[0])
    work(store)
    assert [(d.state, d.attempts, d.status) for d in told(store, actor, made.webhook.id)] == [("waiting", 2, 503)]
    clock.advance(seconds=DELAYS_S[1])
    work(store)
    assert len(inbox.got) == 3
    assert len({headers["webhook-id"] for headers, _ in inbox.got}) == 1
    assert len({body for _, body in inbox.got}) == 1
    work(store)
    assert len(inbox.got) == 3


def test_what_fails_for_days_is_given_up_and_can_be_told_again(
    store: Store, actor: Actor, project: Project, inbox: Inbox, clock: FixedClock
) -> None:
    made = create(store, actor, inbox.url, "project.*")
    inbox.answers = [400] * (len(DELAYS_S) + 1)
    touch(store, actor, project)
    for delay in (0, *DELAYS_S):
        clock.advance(seconds=delay)
        work(store)
    (delivery,) = told(store, actor, made.webhook.id, "failed")
    assert delivery.attempts == len(DELAYS_S) + 1
    clock.advance(days=1)
    work(store)
    assert len(inbox.got) == len(DELAYS_S) + 1
    asked = ReplayWebhook(id=made.webhook.id, delivery_id=delivery.id)
    assert store.database.write(webhooks.replay, actor, asked).waiting == 1
    work(store)
    assert told(store, actor, made.webhook.id)[0].state == "delivered"


def test_of_one_object_the_second_event_waits_for_the_first_and_others_do_not(
    store: Store, actor: Actor, inbox: Inbox, clock: FixedClock
) -> None:
    create(store, actor, inbox.url, "project.updated")
    first, second = make_project(store.database, actor, "first"), make_project(store.database, actor, "second")
    inbox.answers = [500]
    for project in (first, first, second):
        touch(store, actor, project)
    work(store)
    subjects = [json.loads(body)["data"]["subject_id"] for _, body in inbox.got]
    assert subjects == [first.id, second.id]
    clock.advance(seconds=DELAYS_S[0])
    work(store)
    seqs = [
        json.loads(body)["data"]["seq"] for _, body in inbox.got if json.loads(body)["data"]["subject_id"] == first.id
    ]
    assert len(seqs) == 3
    assert seqs[0] == seqs[1] < seqs[2]


def test_who_does_not_answer_at_all_is_left_alone_for_a_while(
    store: Store, actor: Actor, project: Project, clock: FixedClock
) -> None:
    silent = Inbox()
    silent.server_close()
    made = create(store, actor, silent.url, "*.*")
    other = make_project(store.database, actor, "other")
    touch(store, actor, project)
    touch(store, actor, other)
    work(store)
    found = told(store, actor, made.webhook.id)
    assert sorted(d.attempts for d in found) == [0, 0, 1]
    assert all(d.run_at >= clock.now + timedelta(seconds=DELAYS_S[0]) for d in found)


def test_who_says_gone_is_told_no_more(store: Store, actor: Actor, project: Project, inbox: Inbox) -> None:
    made = create(store, actor, inbox.url, "project.*")
    inbox.answers = [410]
    touch(store, actor, project)
    work(store)
    touch(store, actor, project)
    work(store)
    assert len(inbox.got) == 1
    assert not store.database.read(webhooks.get, actor, GetWebhook(id=made.webhook.id)).enabled
    assert store.database.read(audits.list_, actor, ListAudit(event="webhook.disabled")).items


def test_what_was_missed_while_disabled_is_told_when_enabled(
    store: Store, actor: Actor, project: Project, inbox: Inbox
) -> None:
    made = create(store, actor, inbox.url, "project.*")
    store.database.write(webhooks.edit, actor, UpdateWebhook(id=made.webhook.id, enabled=False))
    touch(store, actor, project)
    work(store)
    assert inbox.got == []
    store.database.write(webhooks.edit, actor, UpdateWebhook(id=made.webhook.id, enabled=True))
    work(store)
    assert inbox.events() == ["project.updated"]


def test_everything_since_a_number_can_be_told_again(
    store: Store, actor: Actor, project: Project, inbox: Inbox
) -> None:
    made = create(store, actor, inbox.url, "project.*")
    touch(store, actor, project)
    touch(store, actor, project)
    work(store)
    second = json.loads(inbox.got[1][1])["data"]["seq"]
    store.database.write(webhooks.replay, actor, ReplayWebhook(id=made.webhook.id, since=second))
    work(store)
    assert [json.loads(body)["data"]["seq"] for _, body in inbox.got[2:]] == [second]
    ids = [headers["webhook-id"] for headers, _ in inbox.got]
    assert len(set(ids)) == 3


def test_a_test_is_told_whatever_the_patterns_and_only_to_its_own(store: Store, actor: Actor, inbox: Inbox) -> None:
    made, other = create(store, actor, inbox.url, "hold.set"), create(store, actor, inbox.url)
    store.database.write(webhooks.test, actor, TestWebhook(id=made.webhook.id))
    work(store)
    events = {d.event for d in told(store, actor, made.webhook.id)}
    assert events == {"webhook.tested"}
    assert "webhook.tested" not in {d.event for d in told(store, actor, other.webhook.id)}


def test_a_new_secret_signs_what_comes_after_it(
    store: Store, actor: Actor, project: Project, inbox: Inbox, clock: FixedClock
) -> None:
    made = create(store, actor, inbox.url, "project.*")
    touch(store, actor, project)
    fresh = store.database.write(webhooks.rotate_secret, actor, RotateWebhookSecret(id=made.webhook.id))
    work(store)
    assert fresh.secret != made.secret
    verify(fresh.secret, *inbox.got[0], clock.now)


def test_a_secret_is_wrapped_where_there_is_a_master_key(
    store: Store, actor: Actor, project: Project, inbox: Inbox, clock: FixedClock, tmp_path: Path
) -> None:
    store.database.master = MasterKey(b"m" * 32)
    made = create(store, actor, inbox.url, "project.*")
    touch(store, actor, project)
    work(store)
    verify(made.secret, *inbox.got[0], clock.now)
    store.database.master = None
    touch(store, actor, project)
    telling.look(store)
    with pytest.raises(Unavailable, match="master_key_file"):
        store.database.read(webhooks.take, actor, made.webhook.id)


def test_a_removed_webhook_is_told_nothing_and_nothing_is_left_of_it(
    store: Store, actor: Actor, project: Project, inbox: Inbox
) -> None:
    made = create(store, actor, inbox.url)
    touch(store, actor, project)
    telling.look(store)
    store.database.write(webhooks.remove, actor, RemoveWebhook(id=made.webhook.id))
    make_worker(store).run_all()
    assert inbox.got == []
    assert store.database.read(webhooks.list_, actor, ListWebhooks()).items == []
    with pytest.raises(NotFound):
        told(store, actor, made.webhook.id)


def test_what_was_told_long_ago_is_forgotten_and_what_waits_is_not(
    store: Store, actor: Actor, project: Project, inbox: Inbox, clock: FixedClock
) -> None:
    made = create(store, actor, inbox.url, "project.*")
    touch(store, actor, project)
    work(store)
    inbox.answers = [500]
    touch(store, actor, project)
    work(store)
    clock.advance(days=31)
    telling.forget(store)
    assert [d.state for d in told(store, actor, made.webhook.id)] == ["waiting"]


URLS = [
    "",
    "example.com",
    "ftp://example.com/",
    "https://",
    "https://user:secret@example.com/",
    "https://[::1",
    "http://x:99999/",
]


@pytest.mark.parametrize("url", URLS)
def test_a_url_that_is_none_is_refused(store: Store, actor: Actor, url: str) -> None:
    with pytest.raises(Invalid):
        create(store, actor, url)


def test_the_secret_is_shown_once_and_in_no_list(store: Store, actor: Actor) -> None:
    made = create(store, actor, "https://example.com/")
    assert made.secret.startswith("whsec_")
    fields: Any = store.database.read(webhooks.get, actor, GetWebhook(id=made.webhook.id)).__struct_fields__
    assert "secret" not in fields


def test_editors_and_agents_have_no_webhooks(store: Store, actor: Actor) -> None:
    for other in (make_actor(store.database, "editor"), make_actor(store.database, "owner", agent=True)):
        with pytest.raises(Forbidden):
            create(store, other, "https://example.com/")
