"""The audit trail: what is in it, who reads it, and that no change to it goes unnoticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update

from labkeep.core import audit
from labkeep.core.access import Actor
from labkeep.core.commands import ItemVerb, ListAudit, Nothing
from labkeep.core.commands_proof import ExportAudit
from labkeep.core.entities import AuditEvent
from labkeep.core.errors import Corrupt, Forbidden, Invalid
from labkeep.core.lifecycle import Status
from labkeep.operations import Store, audits, deletions
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx
from labkeep.testing.databases import note
from labkeep.testing.factories import FixedClock, make_actor, make_run, make_store

EVENTS = 12


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def store(tmp_path: Path, clock: FixedClock) -> Iterator[Store]:
    with make_store(tmp_path, clock) as store:
        yield store


@pytest.fixture
def actor(store: Store, clock: FixedClock) -> Actor:
    """An owner whose organization has `EVENTS` events."""
    actor = make_actor(store.database)
    for number in range(EVENTS):
        clock.advance(minutes=1)
        store.database.write(note, actor, f"subject-{number % 3}")
    return actor


def listed(store: Store, reader: Actor, **asked: Any) -> list[AuditEvent]:
    return store.database.read(audits.list_, reader, ListAudit(**asked)).items


def test_an_event_says_who_when_where_and_on_what(store: Store, actor: Actor, clock: FixedClock) -> None:
    (event,) = listed(store, actor, limit=1)
    assert (event.seq, event.event, event.at, event.subject_id) == (EVENTS, "test.noted", clock.now, "subject-2")
    assert (event.actor, event.key_id, event.client) == (actor.user, actor.key_id, actor.client)
    assert (event.request_id, event.workspace_id) == (actor.request_id, actor.workspace_id)


def test_lists_narrow_by_event_actor_and_time_in_both_directions(store: Store, actor: Actor, clock: FixedClock) -> None:
    other = make_actor(store.database)
    store.database.write(note, other, "x")
    assert [event.seq for event in listed(store, actor)] == list(range(EVENTS + 1, 0, -1))
    assert [event.seq for event in listed(store, actor, ascending=True)] == list(range(1, EVENTS + 2))
    assert [event.seq for event in listed(store, actor, actor=other.user)] == [EVENTS + 1]
    assert [event.seq for event in listed(store, actor, since=clock.now)] == [EVENTS + 1, EVENTS]
    assert listed(store, actor, event="run.trashed") == []


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("limit", [1, 5, EVENTS, 100])
def test_pages_are_complete(store: Store, actor: Actor, limit: int, ascending: bool) -> None:
    found: list[int] = []
    cursor = None
    while True:
        asked = ListAudit(limit=limit, ascending=ascending, cursor=cursor)
        page = store.database.read(audits.list_, actor, asked)
        found += [event.seq for event in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert found == sorted(range(1, EVENTS + 1), reverse=not ascending)
    for wrong in ("x", "WyJhIl0", "W10", "WzE4NDQ2NzQ0MDczNzA5NTUxNjE2MF0"):
        with pytest.raises(Invalid):
            listed(store, actor, cursor=wrong)


def test_an_objects_events_are_found_also_where_it_went_with_many(store: Store, actor: Actor) -> None:
    run = make_run(store.database, actor, status=Status.finished)
    other = make_run(store.database, actor, status=Status.finished)
    from labkeep.core.commands import Apply, Selection

    store.database.write(deletions.archive_item, actor, ItemVerb(id=run.id))
    store.database.write(deletions.apply, actor, Apply(selection=Selection(ids=[run.id, other.id])))
    assert [event.event for event in listed(store, actor, id=run.id)] == ["run.trashed", "run.archived"]
    assert [event.count for event in listed(store, actor, id=other.id)] == [2]


def test_maintainers_read_the_trail_of_their_workspace_and_nobody_elses(store: Store, actor: Actor) -> None:
    assert len(listed(store, make_actor(store.database, "maintainer"))) == EVENTS
    for role in ("viewer", "editor"):
        weak = make_actor(store.database, role)
        for operation, command in ((audits.list_, ListAudit()), (audits.verify, Nothing())):
            with pytest.raises(Forbidden, match=r"audit\.read"):
                store.database.read(operation, weak, command)  # type: ignore[arg-type]
    for place in ({"organization": "other"}, {"workspace": "next door"}):
        assert listed(store, make_actor(store.database, **place)) == []


def test_a_chain_without_events_is_intact(store: Store) -> None:
    report = store.database.read(audits.verify, make_actor(store.database, organization="new"), Nothing())
    assert (report.events, report.intact, report.first_break) == (0, True, None)


E = t.audit_events.c
MIDDLE = E.seq == 5
TAMPERING: dict[str, tuple[Callable[[], Any], int]] = {
    "a reason is added": (lambda: update(t.audit_events).where(MIDDLE).values(reason="!"), 5),
    "the actor is another": (lambda: update(t.audit_events).where(MIDDLE).values(actor="mallory"), 5),
    "the details say more": (lambda: update(t.audit_events).where(MIDDLE).values(details={"a": 1}), 5),
    "it moves in time": (lambda: update(t.audit_events).where(MIDDLE).values(at=FixedClock().now), 5),
    "the count is lower": (lambda: update(t.audit_events).where(MIDDLE).values(count=0), 5),
    "the hash is another": (lambda: update(t.audit_events).where(MIDDLE).values(hash="0" * 64), 5),
    "one in the middle is missing": (lambda: delete(t.audit_events).where(MIDDLE), 5),
    "the first is missing": (lambda: delete(t.audit_events).where(E.seq == 1), 1),
    "the last is missing": (lambda: delete(t.audit_events).where(E.seq == EVENTS), EVENTS),
    "all are missing": (lambda: delete(t.audit_events), 1),
    "the end moved back": (lambda: update(t.audit_heads).values(seq=EVENTS - 1), EVENTS + 1),
    "the end has another hash": (lambda: update(t.audit_heads).values(hash="0" * 64), EVENTS + 1),
    "the end is missing": (lambda: delete(t.audit_heads), EVENTS + 1),
}


@pytest.mark.parametrize("batch", [4, 100])
@pytest.mark.parametrize("how", TAMPERING)
def test_whatever_is_changed_breaks_the_chain_where_it_was_changed(
    store: Store, actor: Actor, how: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole batches are read in another way than what is left at the end."""
    monkeypatch.setattr(audit, "BATCH", batch)
    statement, place = TAMPERING[how]
    assert store.database.read(audits.verify, actor, Nothing()).intact
    store.database.write(lambda tx, _actor, _command: tx.execute(statement()) and None, actor, None)
    report = store.database.read(audits.verify, actor, Nothing())
    assert (report.intact, report.first_break) == (False, place)


STRANGE = {
    "bytes for a text": "actor = CAST(actor AS BLOB)",
    "a text that goes on behind a zero": "actor = actor || char(0) || 'x'",
    "a text that is no UTF-8": "reason = CAST(x'ff' AS TEXT)",
    "a fraction for a number": "count = 1.5",
    "a word for a number": "count = 'one'",
    "a word for a time": "at = 'today'",
    "a time out of the calendar": "at = 1 << 62",
    "no JSON": "details = '{'",
    "two details": "details = '{},{}'",
    "bytes for a hash": "hash = CAST(hash AS BLOB)",
    "bytes for the hash before": "previous = CAST(previous AS BLOB)",
    "one number for another": "seq = seq + 0.5",
}


@pytest.mark.parametrize("how", STRANGE)
def test_what_no_event_can_have_breaks_the_chain_where_it_is(
    store: Store, actor: Actor, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite keeps anything in any column."""
    monkeypatch.setattr(audit, "BATCH", 4)
    statement = text(f"UPDATE audit_events SET {STRANGE[how]} WHERE seq = 5")
    store.database.write(lambda tx, _actor, _command: tx.execute(statement) and None, actor, None)
    report = store.database.read(audits.verify, actor, Nothing())
    assert (report.intact, report.first_break) == (False, 5)


def test_details_that_were_written_otherwise_are_the_same(store: Store, actor: Actor) -> None:
    statement = text("UPDATE audit_events SET details = ' { } ' WHERE seq = 5")
    store.database.write(lambda tx, _actor, _command: tx.execute(statement) and None, actor, None)
    assert store.database.read(audits.verify, actor, Nothing()).intact


def test_what_cannot_be_read_is_not_exported_either(store: Store, actor: Actor) -> None:
    statement = text("UPDATE audit_events SET at = 'today' WHERE seq = 5")
    store.database.write(lambda tx, _actor, _command: tx.execute(statement) and None, actor, None)
    with pytest.raises(Corrupt, match="audit verify"):
        store.database.read(audits.export, actor, ExportAudit())


def test_a_forged_event_at_the_end_is_noticed(store: Store, actor: Actor) -> None:
    def forge(tx: Tx, _actor: Actor, _command: None) -> None:
        last = dict(tx.one(select(t.audit_events).where(E.seq == EVENTS)) or {})
        tx.execute(insert(t.audit_events), [{**last, "seq": EVENTS + 1, "previous": last["hash"]}])

    store.database.write(forge, actor, None)
    assert store.database.read(audits.verify, actor, Nothing()).first_break == EVENTS + 1


def test_a_chain_that_was_cut_at_its_end_with_its_head_is_still_one_that_goes_on(store: Store, actor: Actor) -> None:
    """What a chain alone cannot prove: that is what exporting its head is for."""

    def cut(tx: Tx, _actor: Actor, _command: None) -> None:
        tx.execute(delete(t.audit_events).where(E.seq > 5))
        last = tx.one(select(E.hash).where(E.seq == 5))
        assert last is not None
        tx.execute(update(t.audit_heads).values(seq=5, hash=last["hash"]))

    before = store.database.read(audits.verify, actor, Nothing())
    store.database.write(cut, actor, None)
    after = store.database.read(audits.verify, actor, Nothing())
    assert after.intact
    assert (after.events, after.head) != (before.events, before.head)


def test_events_of_other_organizations_do_not_mix_in(store: Store, actor: Actor) -> None:
    other = make_actor(store.database, organization="other")
    for number in range(3):
        store.database.write(note, other, str(number))
        store.database.write(note, actor, str(number))
    for one, count in ((actor, EVENTS + 3), (other, 3)):
        report = store.database.read(audits.verify, one, Nothing())
        assert (report.events, report.intact) == (count, True)
