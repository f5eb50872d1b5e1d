"""Signing keys, receipts and signed audit trails, on both databases."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import delete, insert, select, update

from labkeep.core import audit
from labkeep.core.access import SERVER_SCOPE, Actor
from labkeep.core.commands import Apply, Get, Nothing, PurgeDeletion, Selection
from labkeep.core.commands_proof import ExportAudit, ListCheckpoints, ListReceipts
from labkeep.core.entities import AuditEvent
from labkeep.core.errors import Corrupt, Forbidden, Invalid, NotFound, Unavailable
from labkeep.core.lifecycle import Status
from labkeep.core.receipts import Receipt, examine, to_file
from labkeep.operations import Store, audits, checkpoints, deletions, receipts
from labkeep.server import make_worker
from labkeep.settings import Settings
from labkeep.storage import chain, check, signing
from labkeep.storage import tables as t
from labkeep.storage.blobs import MemoryBlobs
from labkeep.storage.column_types import EPOCH
from labkeep.storage.database import Database
from labkeep.storage.database_postgres import Postgres
from labkeep.storage.master_key import MasterKey
from labkeep.storage.transaction import Tx
from labkeep.testing.databases import TRICKY_TEXTS, note
from labkeep.testing.factories import FixedClock, make_actor, make_run, make_sqlite
from labkeep.worker.tasks import sign_trails

NOTHING = Nothing()
MASTER, OTHER = MasterKey(bytes(range(32))), MasterKey(bytes(32))


class Lab:
    """A store, its clock, its owner, and what these tests do in short."""

    def __init__(self, database: Database, clock: FixedClock) -> None:
        self.clock = clock
        self.store = Store(database, MemoryBlobs(), Settings())
        self.database = database
        self.owner = make_actor(database)

    def write(self, operation: Any, command: Any = NOTHING, actor: Actor | None = None) -> Any:
        return self.database.write(operation, actor or self.owner, command)

    def read(self, operation: Any, command: Any = NOTHING, actor: Actor | None = None) -> Any:
        return self.database.read(operation, actor or self.owner, command)

    def change(self, statement: Any) -> None:
        self.write(lambda tx, _actor, _command: tx.execute(statement) and None)

    def note(self, count: int) -> None:
        for number in range(count):
            self.clock.advance(minutes=1)
            self.write(note, f"subject-{number}")

    def purge(self) -> Receipt:
        run = make_run(self.database, self.owner, status=Status.finished, name="a name of somebody")
        asked = Apply(selection=Selection(ids=[run.id]), reason="over", ticket="T-1")
        deletion = str(self.write(deletions.apply, asked).deletion_id)
        self.clock.advance(minutes=1)
        self.write(deletions.purge, PurgeDeletion(id=deletion, reason="asked"))
        make_worker(self.store).run_all()
        return self.receipt(deletion)

    def receipt(self, deletion: str) -> Receipt:
        found: Receipt = self.read(receipts.of_deletion, Get(id=deletion))
        return found

    def problems(self) -> list[tuple[str, str]]:
        with self.database.engine.connect() as connection:
            report = check.run(connection, self.store.blobs, self.clock())
        return [(problem.check, problem.message) for problem in report.problems]


@pytest.fixture(params=["sqlite", "postgresql"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    clock = FixedClock()
    database: Database
    if request.param == "sqlite":
        database = make_sqlite(tmp_path, clock)
    else:
        database = Postgres(request.getfixturevalue("postgres_url"), readers=4, clock=clock)
    yield Lab(database, clock)
    database.close()


# --- keys -------------------------------------------------------------------------------------------------------------


def test_many_at_once_make_one_key(lab: Lab) -> None:
    threads = [threading.Thread(target=lab.write, args=(receipts.ensure_key, None)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lab.read(receipts.keys).keys) == 1


def _signature(tx: Tx, _actor: Actor, body: Any) -> tuple[str, str]:
    key = signing.signer(tx)
    return key.id, key.sign(body)


def _private(tx: Tx, _actor: Actor, _command: None) -> list[bytes]:
    return [bytes(row[0]) for row in tx.execute(select(t.signing_keys.c.private))]


def test_a_key_is_wrapped_as_soon_as_there_is_a_master_key_and_opens_with_no_other(lab: Lab) -> None:
    first = lab.write(_signature, {"a": 1})
    (plain,) = lab.read(_private, None)
    lab.database.master = MASTER
    lab.write(receipts.ensure_key, None)
    (wrapped,) = lab.read(_private, None)
    assert plain[:1] == b"\0"
    assert plain[1:] not in wrapped
    assert lab.write(_signature, {"a": 1}) == first
    lab.database.master = None
    with pytest.raises(Unavailable, match="rotate-key"):
        lab.write(_signature, {"a": 1})
    lab.database.master = OTHER
    with pytest.raises(Corrupt, match="cannot be unwrapped"):
        lab.write(_signature, {"a": 1})
    administrator = msgspec.structs.replace(lab.owner, scopes=(SERVER_SCOPE,))
    made = lab.write(receipts.rotate, actor=administrator)  # the way out of a lost master key
    assert lab.write(_signature, {"a": 1})[0] == made.kid


def test_only_the_administrator_of_the_server_rotates_its_key(lab: Lab) -> None:
    with pytest.raises(Forbidden, match="whole server"):
        lab.write(receipts.rotate)
    assert lab.read(receipts.keys).keys == []


# --- receipts ---------------------------------------------------------------------------------------------------------


def test_a_purge_leaves_one_receipt_that_says_what_went_why_and_how(lab: Lab) -> None:
    receipt = lab.purge()
    body = receipt.body
    assert (body["what"]["items"], body["what"]["counts"]) == (1, {"run": 1})
    assert body["what"]["item_ids_complete"] is True
    why = body["why"]
    assert (why["reason"], why["ticket"], why["purge_reason"]) == ("over", "T-1", "asked")
    assert why["purge_requested_by"] == why["trashed_by"] == lab.owner.user
    assert body["method"]["database"]
    assert body["audit"]["seq"] > 0
    assert "a name of somebody" not in str(receipt)
    keys = lab.read(receipts.keys).keys
    assert examine(to_file(receipt), keys, signing.verify).valid
    assert [one.id for one in lab.read(receipts.list_, ListReceipts(kind="purge")).items] == [receipt.id]
    assert lab.problems() == []


def test_verifying_a_purge_again_issues_no_second_receipt(lab: Lab) -> None:
    first = lab.purge()
    lab.write(deletions.purge, PurgeDeletion(id=first.subject_id))
    make_worker(lab.store).run_all()
    assert lab.write(lambda tx, actor, _: receipts.issue(tx, actor, "purge", first.subject_id, {"x": 1})) == first
    assert lab.receipt(first.subject_id) == first


def test_the_name_of_what_is_purged_stays_as_a_digest_only(lab: Lab) -> None:
    receipt = lab.purge()
    (id,) = receipt.body["what"]["item_ids"]
    i = t.items.c
    row = lab.read(lambda tx, _actor, _: tx.one(select(i.name, i.name_digest).where(i.id == id)))
    assert (row["name"], row["name_digest"]) == ("", hashlib.sha256(b"a name of somebody").hexdigest())


def test_receipts_of_another_workspace_are_not_there(lab: Lab) -> None:
    receipt = lab.purge()
    for place in ({"organization": "other"}, {"workspace": "next door"}):
        stranger = make_actor(lab.database, **place)
        assert lab.read(receipts.list_, ListReceipts(), stranger).items == []
        for operation, id in ((receipts.get, receipt.id), (receipts.of_deletion, receipt.subject_id)):
            with pytest.raises(NotFound):
                lab.read(operation, Get(id=id), stranger)


def test_what_has_no_canonical_form_is_not_signed(lab: Lab) -> None:
    with pytest.raises(Invalid):
        lab.write(lambda tx, actor, _: receipts.issue(tx, actor, "erasure", lab.owner.key_id, {"share": 0.5}))
    assert lab.read(receipts.list_, ListReceipts()).items == []


RECEIPT_FAULTS = {
    "the receipt is missing": (lambda: delete(t.receipts), "0 receipts instead of one"),
    "its body is another": (lambda: update(t.receipts).values(body={"type": "x"}), "does not fit"),
    "its key is gone": (lambda: delete(t.signing_keys), "not one of this server's"),
    "its deed was undone": (lambda: update(t.deletions).values(state="purging"), "is not purged"),
}


@pytest.mark.parametrize("fault", RECEIPT_FAULTS)
def test_the_check_sees_when(lab: Lab, fault: str) -> None:
    lab.purge()
    assert lab.problems() == []
    statement, message = RECEIPT_FAULTS[fault]
    lab.change(statement())
    assert any(name == "receipts" and message in text for name, text in lab.problems())


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_signed_once_for_each_end_of_the_chain(lab: Lab) -> None:
    with pytest.raises(Invalid, match="nothing to sign"):
        lab.write(checkpoints.sign)
    lab.note(3)
    first = lab.write(checkpoints.sign)
    assert lab.write(checkpoints.sign) == first
    lab.note(1)
    second = lab.write(checkpoints.sign)
    assert (first.seq, second.seq) == (3, 4)
    assert lab.read(checkpoints.list_, ListCheckpoints()).items == [second, first]
    report = lab.read(audits.verify)
    assert (report.intact, report.checkpoints, report.checkpoint) == (True, 2, 4)


def test_the_clock_signs_every_day_and_every_so_many_events(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "EVERY", 5)
    lab.note(2)

    def signed() -> list[int]:
        sign_trails(lab.store)
        return [point.seq for point in lab.read(checkpoints.list_, ListCheckpoints()).items]

    assert signed() == [2]
    lab.note(2)
    assert signed() == [2]
    lab.note(3)
    assert signed() == [7, 2]
    lab.note(1)
    lab.clock.advance(days=2)
    assert signed() == [8, 7, 2]
    assert signed() == [8, 7, 2]


E = t.audit_events.c


def _cut(lab: Lab, seq: int) -> None:
    """Somebody with the database in hand cuts the chain and moves its end, so that the chain itself holds."""
    hash = lab.read(lambda tx, _actor, _: tx.execute(select(E.hash).where(E.seq == seq)).scalar_one())
    lab.change(delete(t.audit_events).where(E.seq > seq))
    lab.change(update(t.audit_heads).values(seq=seq, hash=hash))


def test_a_chain_that_was_cut_with_its_end_is_found_out_by_its_newest_checkpoint(lab: Lab) -> None:
    lab.note(6)
    lab.write(checkpoints.sign)
    _cut(lab, 4)
    report = lab.read(audits.verify)
    assert (report.intact, report.first_break) == (False, None)
    assert "it was cut" in report.problems[0]
    assert any(name == "audit" for name, _ in lab.problems())


def test_a_chain_that_was_made_anew_is_not_what_its_checkpoint_signed(lab: Lab) -> None:
    lab.note(6)
    lab.write(checkpoints.sign)
    _cut(lab, 4)
    lab.note(3)
    report = lab.read(audits.verify)
    assert (report.intact, report.first_break) == (False, None)
    assert report.problems == ["event 6 is not what its checkpoint signed"]


@pytest.mark.parametrize("values", [{"hash": "0" * 64}, {"signature": "AAAA"}, {"seq": 2}], ids=str)
def test_a_checkpoint_that_was_changed_does_not_verify(lab: Lab, values: dict[str, Any]) -> None:
    lab.note(3)
    lab.write(checkpoints.sign)
    lab.change(update(t.audit_checkpoints).values(values))
    report = lab.read(audits.verify)
    assert not report.intact
    assert report.problems


# --- retention of the trail -------------------------------------------------------------------------------------------


def _keep(lab: Lab, days: Any) -> None:
    lab.change(update(t.organizations).values(settings={"audit_keep_days": days}))


def test_old_events_go_behind_a_checkpoint_only_and_the_rest_still_verifies(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "PRUNED", 2)
    lab.note(5)
    lab.write(checkpoints.sign)
    lab.note(3)
    lab.clock.advance(days=40)
    lab.note(2)
    _keep(lab, 30)
    prune = checkpoints.Prune(lab.owner.organization_id, lab.clock() - timedelta(days=30))
    steps = []
    while gone := lab.write(checkpoints.prune, prune):
        steps.append(gone)
        assert lab.read(audits.verify).intact, "a crash between two steps leaves a chain that holds"
        assert lab.problems() == []
    assert steps == [2, 2, 1]
    report = lab.read(audits.verify)
    assert (report.intact, report.pruned, report.checkpoint) == (True, 5, 5)
    page = lab.read(audits.export, ExportAudit())
    assert (page.pruned, page.entries[0].number) == (5, 6)
    events = [entry.event for entry in page.entries if entry.event is not None]
    assert [event.event for event in events][-3:] == ["audit.pruned"] * 3
    assert events[-1].details["through"] == 5
    lab.change(delete(t.audit_events).where(E.seq == 6))
    assert lab.read(audits.verify).first_break == 6


@pytest.mark.parametrize("days", [None, 0, -1, True, "30", 4000])
def test_without_a_number_of_days_nothing_is_dropped(lab: Lab, days: Any) -> None:
    lab.note(3)
    lab.clock.advance(days=365)
    _keep(lab, days)
    sign_trails(lab.store)
    sign_trails(lab.store)
    assert lab.read(audits.verify).pruned == 0


def test_the_clock_prunes_what_the_organization_does_not_keep(lab: Lab) -> None:
    lab.note(3)
    sign_trails(lab.store)
    lab.clock.advance(days=365)
    _keep(lab, 30)
    sign_trails(lab.store)
    report = lab.read(audits.verify)
    assert (report.intact, report.pruned, report.events) == (True, 3, 4)


# --- exporting --------------------------------------------------------------------------------------------------------


def test_an_export_has_every_event_once_and_a_window_of_time_is_one_piece(lab: Lab) -> None:
    start = lab.clock()
    lab.note(10)
    numbers: list[int] = []
    after: int | None = 0
    while after is not None:
        page = lab.read(audits.export, ExportAudit(after=after, limit=3))
        numbers += [entry.number for entry in page.entries]
        after = page.next
    assert numbers == list(range(1, 11))
    since, until = start + timedelta(minutes=3), start + timedelta(minutes=7)
    page = lab.read(audits.export, ExportAudit(since=since, until=until))
    assert [entry.number for entry in page.entries] == [3, 4, 5, 6]
    assert page.next is None
    late = lab.read(audits.export, ExportAudit(since=lab.clock() + timedelta(days=1)))
    assert late.entries == []


def test_events_of_another_workspace_are_links_without_content(lab: Lab) -> None:
    other = make_actor(lab.database, workspace="next door")
    lab.note(2)
    lab.write(note, "a secret of theirs", other)
    lab.note(1)
    page = lab.read(audits.export, ExportAudit())
    assert [entry.event is None for entry in page.entries] == [False, False, True, False]
    assert "a secret of theirs" not in str(page)
    assert page.entries[2].hash == page.entries[3].event.previous
    administrator = msgspec.structs.replace(lab.owner, scopes=(SERVER_SCOPE,))
    whole = lab.read(audits.export, ExportAudit(), administrator)
    assert all(entry.event is not None for entry in whole.entries)


UNUSUAL = [
    *TRICKY_TEXTS,
    *("".join(map(chr, range(1, 0x180))), "\u2028\u2029\ufeff\U0001f9ea", '"},{"', "\\", "\n", "','", "null"),
]


def test_what_is_read_packed_is_what_stands_in_the_rows(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever text, number, time or details: the chain holds, and a change in the midst of it is noticed."""
    monkeypatch.setattr(audit, "BATCH", 10)
    moments = [timedelta(0), timedelta(days=-1), timedelta(microseconds=-1), timedelta(days=90_000, microseconds=7)]
    events = [
        AuditEvent(
            seq=0,
            at=EPOCH + moments[number % len(moments)],
            event="test.noted",
            actor=unusual,
            key_id=unusual,
            reason=unusual,
            count=(1 << 62) + number,
            details={"z": unusual, "a": [0.1, 1e300, -0.0, None, {"b": number, "a": {}}], unusual: 1 << 60},
            previous="",
            hash="",
        )
        for number, unusual in enumerate(UNUSUAL)
    ]

    def add(tx: Tx, actor: Actor, _command: Nothing) -> None:
        chain.extend(tx.connection, tx.database, [(actor.organization_id, event) for event in events])

    def both(tx: Tx, actor: Actor, _command: Nothing) -> Any:
        asked = (tx.connection, tx.database, actor.organization_id, 0, len(events))
        return chain._unpacked(chain._packed(*asked), 0, len(events)), chain._plain(*asked)

    lab.write(add)
    packed, plain = lab.read(both)
    assert packed is not None
    assert [list(column) for column in packed] == plain
    report = lab.read(audits.verify)
    assert (report.events, report.intact) == (len(events), True)
    lab.change(update(t.audit_events).where(E.seq == 15).values(details={"z": 1}))
    assert lab.read(audits.verify).first_break == 15


def test_an_event_that_was_put_in_between_is_noticed(lab: Lab) -> None:
    lab.note(3)
    row = dict(lab.read(lambda tx, _actor, _: tx.one(select(t.audit_events).where(E.seq == 3))))
    lab.change(insert(t.audit_events).values({**row, "seq": 4, "previous": row["hash"]}))
    assert lab.read(audits.verify).first_break == 4
