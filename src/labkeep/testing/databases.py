"""The tests that every database passes. A new one proves itself with a class of its own:

class TestMyDatabase(DatabaseTests):
    @pytest.fixture
    def opened(self) -> Callable[[], Database]:
        return lambda: MyDatabase(place)     # the same place each time; empty at first
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import bindparam, delete, func, insert, literal, select, update
from sqlalchemy.exc import DBAPIError

from labkeep.core.access import Actor
from labkeep.core.audit import GENESIS, first_break
from labkeep.core.entities import AuditEvent, Project
from labkeep.core.errors import AlreadyExists, Invalid, NotFound, Unavailable
from labkeep.storage import tables as t
from labkeep.storage.conditions import contains_text
from labkeep.storage.database import Database
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import make_actor, make_project

MIB = 1 << 20
WAIT_S = 60

TRICKY_TEXTS = [
    *(
        "",
        " ",
        "a",
        "A",
        "b",
        "B",
        "_",
        "-",
        "0",
        "9",
        "10",
        "aa",
        "ab",
        "Ab",
        "é",
        "e\u0301",
        "É",
        "ß",
        "ẞ",
        "SS",
        "ss",
    ),
    *(
        "\u0131",
        "\u0130",
        "i",
        "I",
        "K",
        "\u212a",
        "\u017f",
        "\u03a3",
        "\u03c3",
        "\u03c2",
        "ﬁ",
        "fi",
        "Ω",
        "\u2126",
        "日本",
        "\U0001f600",
        "\uffff",
    ),
    *("\x01", "\x7f", "\x85", "\u2028", "tab\t", "line\n", "'", '"', "%", "\\", "x" * 1000, "\U0010ffff", "\ue000"),
]
"""Texts in which encodings, collations and case differ between databases that are not told better."""


def count_of(database: Database, actor: Actor) -> int:
    """How many objects the actor's organization has."""

    def count(tx: Tx, actor: Actor, _command: None) -> int:
        mine = t.items.c.organization_id == actor.organization_id
        return int(tx.execute(select(func.count()).select_from(t.items).where(mine)).scalar_one())

    return database.read(count, actor, None)


def chain_of(database: Database, actor: Actor) -> list[AuditEvent]:
    """The organization's audit events, checked to be one unbroken chain that ends at its head."""

    def read(tx: Tx, actor: Actor, _command: None) -> list[AuditEvent]:
        c, h = t.audit_events.c, t.audit_heads.c
        columns = [c[name] for name in AuditEvent.__struct_fields__]
        rows = tx.all(select(*columns).where(c.organization_id == actor.organization_id).order_by(c.seq))
        events = [AuditEvent(**row) for row in rows]
        assert first_break(events) is None
        head = tx.one(select(h.seq, h.hash).where(h.organization_id == actor.organization_id))
        end = (events[-1].seq, events[-1].hash) if events else (0, GENESIS)
        assert (head["seq"], head["hash"]) == end if head is not None else not events
        return events

    return database.read(read, actor, None)


def note(tx: Tx, actor: Actor, subject: str) -> None:
    """An operation that writes one audit event."""
    tx.audit(actor, "test.noted", subject)


def fill(tx: Tx, actor: Actor, sizes: tuple[int, int]) -> None:
    """Store ``count`` chunks of ``size`` bytes."""
    count, size = sizes
    owner = tx.new_id()
    rows = [
        {
            "organization_id": actor.organization_id,
            "run_id": owner,
            "stream": "s",
            "first_row": number,
            "rows": 1,
            "data": b"x" * size,
        }
        for number in range(count)
    ]
    tx.insert(t.chunks, rows)


def empty(tx: Tx, actor: Actor, _command: None) -> None:
    """Delete all chunks."""
    tx.execute(delete(t.chunks).where(t.chunks.c.organization_id == actor.organization_id))


class Gate:
    """An operation that holds a writer until it is opened, so that others gather behind it."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()

    def wait(self, _tx: Tx, _actor: Actor, _command: None) -> None:
        self.entered.set()
        assert self.open.wait(WAIT_S)


class DatabaseTests:
    """Subclass it and override ``opened``; see the module."""

    @pytest.fixture
    def opened(self) -> Callable[[], Database]:
        """A function that opens the same database each time; it is empty at first."""
        raise NotImplementedError("override the fixture `opened`")

    @pytest.fixture
    def database(self, opened: Callable[[], Database]) -> Iterator[Database]:
        """The database, closed afterwards."""
        database = opened()
        yield database
        database.close()

    @pytest.fixture
    def actor(self, database: Database) -> Actor:
        """An owner in an organization of its own."""
        return make_actor(database)

    @pytest.fixture
    def pool(self) -> Iterator[ThreadPoolExecutor]:
        """Eight callers at the same time."""
        with ThreadPoolExecutor(8) as pool:
            yield pool

    # Writing

    def test_a_write_is_read_back_by_whoever_comes_after_its_answer(self, database: Database, actor: Actor) -> None:
        for number in range(20):
            make_project(database, actor)
            assert count_of(database, actor) == number + 1

    def test_what_an_operation_raises_reaches_its_caller_and_undoes_all_it_did(
        self, database: Database, actor: Actor
    ) -> None:
        def half(tx: Tx, actor: Actor, _command: None) -> None:
            fill(tx, actor, (3, 10))
            note(tx, actor, "never")
            raise NotFound("no such thing")

        with pytest.raises(NotFound, match="no such thing"):
            database.write(half, actor, None)
        assert chain_of(database, actor) == []

        def chunks(tx: Tx, _actor: Actor, _command: None) -> int:
            return int(tx.execute(select(func.count()).select_from(t.chunks)).scalar_one())

        assert database.read(chunks, actor, None) == 0

    def test_a_bug_in_an_operation_reaches_its_caller_as_it_is(self, database: Database, actor: Actor) -> None:
        def bug(_tx: Tx, _actor: Actor, _command: None) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            database.write(bug, actor, None)
        with pytest.raises(ZeroDivisionError):
            database.read(bug, actor, None)
        make_project(database, actor)

    def test_of_many_operations_at_once_only_those_that_fail_are_undone(self, database: Database, actor: Actor) -> None:
        def sometimes(tx: Tx, actor: Actor, number: int) -> int:
            note(tx, actor, str(number))
            fill(tx, actor, (1, 10))
            if number % 3 == 0:
                raise Invalid(str(number))
            if number % 3 == 1:
                tx.execute(insert(t.organizations), [{"id": actor.organization_id, "name": "x", "created_at": tx.now}])
            return number

        gate = Gate()
        held = database.submit(gate.wait, actor, None)
        assert gate.entered.wait(WAIT_S)
        futures = [database.submit(sometimes, actor, number) for number in range(300)]
        gate.open.set()
        held.result(WAIT_S)
        errors = {number: future.exception(WAIT_S) for number, future in enumerate(futures)}
        assert {number for number, error in errors.items() if error is None} == set(range(2, 300, 3))
        assert all(isinstance(errors[number], Invalid) for number in range(0, 300, 3))
        assert all(isinstance(errors[number], AlreadyExists) for number in range(1, 300, 3))
        assert sorted(int(event.subject_id) for event in chain_of(database, actor)) == list(range(2, 300, 3))

    def test_writers_at_the_same_time_lose_nothing(
        self, database: Database, actor: Actor, pool: ThreadPoolExecutor
    ) -> None:
        make_project(database, actor)

        def count_up(tx: Tx, actor: Actor, _command: None) -> None:
            c = t.items.c
            mine = c.organization_id == actor.organization_id
            before = tx.execute(select(c.bytes).where(mine).with_for_update()).scalar_one()
            tx.execute(update(t.items).where(mine).values(bytes=before + 1))
            note(tx, actor, "counted")

        list(pool.map(lambda _: database.write(count_up, actor, None), range(200)))

        def total(tx: Tx, actor: Actor, _command: None) -> int:
            mine = t.items.c.organization_id == actor.organization_id
            return int(tx.execute(select(t.items.c.bytes).where(mine)).scalar_one())

        assert database.read(total, actor, None) == 200
        assert len(chain_of(database, actor)) == 200

    def test_the_first_events_of_a_chain_may_come_all_at_once(
        self, database: Database, pool: ThreadPoolExecutor
    ) -> None:
        actors = [make_actor(database, organization=f"o{number}") for number in range(5)]
        list(pool.map(lambda number: database.write(note, actors[number % 5], str(number)), range(100)))
        assert [len(chain_of(database, actor)) for actor in actors] == [20] * 5

    def test_chains_of_several_organizations_are_extended_by_one_transaction(
        self, database: Database, pool: ThreadPoolExecutor
    ) -> None:
        first, second = (make_actor(database, organization=name) for name in ("a", "b"))

        def both(tx: Tx, _actor: Actor, number: int) -> None:
            for actor in (first, second) if number % 2 else (second, first):
                note(tx, actor, str(number))

        list(pool.map(lambda number: database.write(both, first, number), range(40)))
        assert len(chain_of(database, first)) == len(chain_of(database, second)) == 40

    def test_an_event_that_cannot_be_stored_fails_its_own_operation(self, database: Database, actor: Actor) -> None:
        gate = Gate()
        held = database.submit(gate.wait, actor, None)
        assert gate.entered.wait(WAIT_S)
        bad = database.submit(note, actor, "half a pair: \ud800")
        good = database.submit(note, actor, "good")
        gate.open.set()
        assert held.result(WAIT_S) is None
        assert isinstance(bad.exception(WAIT_S), UnicodeEncodeError)
        assert good.exception(WAIT_S) is None
        assert [event.subject_id for event in chain_of(database, actor)] == ["good"]

    def test_a_name_that_two_take_at_the_same_moment_goes_to_one(
        self, database: Database, actor: Actor, pool: ThreadPoolExecutor
    ) -> None:
        def take(_: int) -> Project | AlreadyExists:
            try:
                return make_project(database, actor, "wanted")
            except AlreadyExists as error:
                return error

        outcomes = list(pool.map(take, range(16)))
        assert sum(isinstance(outcome, Project) for outcome in outcomes) == 1
        assert count_of(database, actor) == 1

    def test_a_missing_value_is_a_bug_and_no_taken_name(self, database: Database, actor: Actor) -> None:
        def nameless(tx: Tx, _actor: Actor, _command: None) -> None:
            tx.execute(insert(t.organizations), [{"id": tx.new_id(), "name": None, "created_at": tx.now}])

        with pytest.raises(DBAPIError):
            database.write(nameless, actor, None)

    def test_a_number_that_is_too_large_is_invalid(self, database: Database, actor: Actor) -> None:
        def store(tx: Tx, actor: Actor, number: int) -> None:
            tx.execute(update(t.items).where(t.items.c.organization_id == actor.organization_id).values(bytes=number))

        with pytest.raises(Invalid):
            database.write(store, actor, 2**70)
        with pytest.raises(Invalid):
            database.read(
                lambda tx, _actor, number: tx.one(select(t.items.c.id).where(t.items.c.bytes == number)), actor, 2**70
            )
        make_project(database, actor)

    def test_one_transaction_has_one_moment_of_the_clock(self, database: Database, actor: Actor) -> None:
        moments = iter([datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number) for number in range(100)])
        database.clock = lambda: next(moments)

        def twice(tx: Tx, _actor: Actor, _command: None) -> tuple[datetime, datetime]:
            return tx.now, tx.now

        first, again = database.write(twice, actor, None)
        assert first == again
        assert database.write(twice, actor, None)[0] > first

    def test_ids_rise(self, database: Database, actor: Actor) -> None:
        made = [database.write(lambda tx, _actor, _command: tx.new_id(), actor, None) for _ in range(50)]
        assert made == sorted(set(made))

    def test_a_worker_is_woken_by_a_commit_and_by_no_failure(self, database: Database, actor: Actor) -> None:
        def enqueue(tx: Tx, _actor: Actor, error: BaseException | None) -> None:
            tx.enqueued = True
            if error:
                raise error

        database.job_waiting.clear()
        with pytest.raises(Invalid):
            database.write(enqueue, actor, Invalid("no"))
        assert not database.job_waiting.is_set()
        database.write(enqueue, actor, None)
        assert database.job_waiting.wait(WAIT_S)

    # Reading

    def test_a_reader_sees_one_moment_however_long_it_reads(self, database: Database, actor: Actor) -> None:
        between = threading.Event()
        go_on = threading.Event()

        def twice(tx: Tx, actor: Actor, _command: None) -> tuple[Any, Any]:
            mine = select(func.count()).select_from(t.items).where(t.items.c.organization_id == actor.organization_id)
            first = tx.execute(mine).scalar_one()
            between.set()
            assert go_on.wait(WAIT_S)
            return first, tx.execute(mine).scalar_one()

        reading = database.query(twice, actor, None)
        assert between.wait(WAIT_S)
        make_project(database, actor)
        go_on.set()
        assert reading.result(WAIT_S) == (0, 0)
        assert count_of(database, actor) == 1

    def test_a_reader_does_not_wait_for_a_writer(self, database: Database, actor: Actor) -> None:
        def slow(tx: Tx, actor: Actor, gate: Gate) -> None:
            fill(tx, actor, (1, 10))
            gate.wait(tx, actor, None)

        gate = Gate()
        writing = database.submit(slow, actor, gate)
        assert gate.entered.wait(WAIT_S)
        assert count_of(database, actor) == 0
        gate.open.set()
        writing.result(WAIT_S)

    def test_a_read_cannot_write(self, database: Database, actor: Actor) -> None:
        with pytest.raises((Unavailable, DBAPIError)):
            database.read(fill, actor, (1, 10))
        make_project(database, actor)

    def test_more_readers_than_connections_all_get_their_turn(
        self, database: Database, actor: Actor, pool: ThreadPoolExecutor
    ) -> None:
        assert list(pool.map(lambda _: count_of(database, actor), range(64))) == [0] * 64

    def test_every_text_comes_back_and_is_ordered_by_code_point(self, database: Database, actor: Actor) -> None:
        names = [text for text in TRICKY_TEXTS if text]
        for name in names:
            make_project(database, actor, name)

        def listed(tx: Tx, actor: Actor, _command: None) -> list[str]:
            c = t.items.c
            query = select(c.name).where(c.organization_id == actor.organization_id).order_by(c.name)
            return [row[0] for row in tx.execute(query)]

        assert database.read(listed, actor, None) == sorted(names)

    def test_texts_are_searched_by_unicode_case_folding(self, database: Database, actor: Actor) -> None:
        def holds(tx: Tx, _actor: Actor, pair: tuple[str, str]) -> bool:
            text, part = (bindparam(name, value, t.items.c.name.type) for name, value in zip("ab", pair, strict=True))
            return bool(tx.execute(select(literal(1)).where(contains_text(text, part))).first())

        pairs = [(text, part) for text in TRICKY_TEXTS for part in TRICKY_TEXTS]
        found = {pair for pair in pairs if database.read(holds, actor, pair)}
        assert found == {(text, part) for text, part in pairs if part.casefold() in text.casefold()}

    # Giving up, ending, giving back

    def test_a_caller_that_gives_up_harms_nobody(self, database: Database, actor: Actor) -> None:
        gate = Gate()
        futures: list[Future[Any]] = [database.submit(gate.wait, actor, None)]
        assert gate.entered.wait(WAIT_S)
        futures += [database.submit(note, actor, str(number)) for number in range(40)]
        given_up = [future for future in futures[1::2] if future.cancel()]
        gate.open.set()
        for future in futures:
            assert future in given_up or future.result(WAIT_S) is None
        assert len(chain_of(database, actor)) == 40 - len(given_up)

    def test_what_was_accepted_is_stored_before_the_end(self, opened: Callable[[], Database]) -> None:
        database = opened()
        actor = make_actor(database)
        futures = [database.submit(note, actor, str(number)) for number in range(500)]
        database.close()
        assert [future.result(0) for future in futures] == [None] * 500
        again = opened()
        assert len(chain_of(again, actor)) == 500
        again.close()

    def test_a_closed_database_says_so(self, opened: Callable[[], Database]) -> None:
        database = opened()
        actor = make_actor(database)
        database.close()
        database.close()
        for ask in (
            lambda: database.submit(note, actor, ""),
            lambda: database.query(note, actor, ""),
            database.reclaim,
        ):
            with pytest.raises(Unavailable, match="closed"):
                ask()

    def test_reclaiming_gives_the_space_of_what_was_deleted_back(self, database: Database, actor: Actor) -> None:
        database.reclaim().result(WAIT_S)
        before = database.size_bytes()
        for _ in range(4):
            database.write(fill, actor, (64, 128 << 10))
        full = database.size_bytes()
        database.write(empty, actor, None)
        database.reclaim().result(WAIT_S)
        assert database.size_bytes() - before < (full - before) / 20 + MIB

    def test_reclaiming_nothing_is_fine(self, database: Database) -> None:
        assert database.reclaim().result(WAIT_S) >= 0
        assert database.reclaim().result(WAIT_S) >= 0

    def test_others_read_and_write_while_space_is_given_back(
        self, database: Database, actor: Actor, pool: ThreadPoolExecutor
    ) -> None:
        database.write(fill, actor, (200, 64 << 10))
        database.write(empty, actor, None)
        reclaiming = [database.reclaim() for _ in range(3)]
        list(pool.map(lambda number: database.write(note, actor, str(number)), range(100)))
        assert list(pool.map(lambda _: count_of(database, actor), range(50))) == [0] * 50
        assert all(future.result(WAIT_S) >= 0 for future in reclaiming)
        assert len(chain_of(database, actor)) == 100

    # The schema

    def test_a_database_is_found_again_as_it_was_left(self, opened: Callable[[], Database]) -> None:
        first = opened()
        actor = make_actor(first)
        make_project(first, actor)
        first.close()
        again = opened()
        assert count_of(again, actor) == 1
        again.close()

    def test_a_database_of_a_newer_release_is_refused(self, opened: Callable[[], Database]) -> None:
        first = opened()
        actor = make_actor(first)

        def from_the_future(tx: Tx, _actor: Actor, _command: None) -> None:
            tx.connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

        first.write(from_the_future, actor, None)
        first.close()
        with pytest.raises(Unavailable, match=r"9999.*newer"):
            opened()
        with pytest.raises(Unavailable, match=r"9999.*newer"):
            opened()
