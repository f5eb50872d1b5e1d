"""The line to the server: order, overflow to disk, and the end."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from labkeep import errors
from labkeep.client import outbox as outboxes
from labkeep.client import spool
from labkeep.client.outbox import KEEPING, SENDING, SPOOLING, Outbox, Ticket
from labkeep.client.spool import Begin, Change, Op, Rows, Spool
from labkeep.core.columns import encode_rows

BEGIN = Begin(run={"id": "r", "project": "p"})


class Server:
    """Takes ops, slowly or not at all."""

    def __init__(self) -> None:
        self.taken: list[Op] = []
        self.error: errors.LabkeepError | None = None
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, op: Op) -> int:
        self.gate.wait(5)
        if self.error is not None:
            raise self.error
        self.taken.append(op)
        return len(self.taken)


@pytest.fixture
def server() -> Server:
    return Server()


def rows(offset: int, size: int = 0) -> Rows:
    return Rows("history", offset, 1, encode_rows([(offset, None, {"text": "x" * size} if size else {})]))


def outbox(server: Server, path: Path, mode: str = SENDING) -> Outbox:
    made = Outbox("test", server, Spool(path / "a.spool", BEGIN), mode=mode)
    made.start()
    return made


def kept(path: Path) -> list[Op]:
    file = path / "a.spool"
    return [op for _, op in spool.read(file)] if file.exists() else []


def test_ops_arrive_in_order_and_nothing_stays_on_disk(server: Server, tmp_path: Path) -> None:
    made = outbox(server, tmp_path)
    wanted: list[Op] = [rows(n) for n in range(500)]
    for op in wanted:
        made.put(op)
    assert made.close(5) is True
    assert server.taken == wanted
    assert kept(tmp_path) == []


def test_an_op_is_sent_from_its_own_thread_when_nothing_is_before_it(server: Server, tmp_path: Path) -> None:
    made = outbox(server, tmp_path)
    assert made.send(rows(0), 1.0) is True
    server.gate.clear()
    made.put(rows(1))
    time.sleep(0.05)
    threading.Timer(0.1, server.gate.set).start()
    assert made.send(rows(2), 5.0) is True
    assert [op.offset for op in server.taken if isinstance(op, Rows)] == [0, 1, 2]
    made.close(1)


def test_a_slow_server_fills_the_disk_and_not_the_memory(server: Server, tmp_path: Path) -> None:
    server.gate.clear()
    made = outbox(server, tmp_path)
    piece = outboxes.MEMORY_BYTES // 5
    wanted: list[Op] = [rows(n, piece) for n in range(8)]
    for op in wanted:
        made.put(op)
    assert made.mode == SPOOLING
    assert made._bytes < outboxes.MEMORY_BYTES
    server.gate.set()
    assert made.close(20) is True
    offsets = [op.offset for op in server.taken if isinstance(op, Rows)]
    assert list(dict.fromkeys(offsets)) == list(range(8)), "in order; only the one that was under way came twice"
    assert kept(tmp_path) == []


def test_what_a_server_that_is_away_did_not_get_is_on_disk_at_the_end(server: Server, tmp_path: Path) -> None:
    server.error = errors.Unavailable("away")
    made = outbox(server, tmp_path)
    ticket = Ticket()
    made.put(rows(0), ticket)
    assert ticket.wait(2) is False
    made.put(rows(1))
    assert made.close(2) is False
    assert kept(tmp_path) == [BEGIN, rows(0), rows(1)]


def test_a_server_that_hangs_does_not_hold_up_the_end(server: Server, tmp_path: Path) -> None:
    server.gate.clear()
    made = outbox(server, tmp_path)
    for n in range(3):
        made.put(rows(n))
    begun = time.monotonic()
    assert made.close(0.2) is False
    assert time.monotonic() - begun < 2
    assert kept(tmp_path) == [BEGIN, rows(0), rows(1), rows(2)]
    server.gate.set()


def test_it_begins_with_the_spool_when_the_server_is_away_already(server: Server, tmp_path: Path) -> None:
    made = outbox(server, tmp_path, SPOOLING)
    assert kept(tmp_path) == [BEGIN]
    made.put(rows(0))
    assert made.close(5) is True
    assert server.taken == [BEGIN, rows(0)]


def test_without_a_server_everything_is_kept(server: Server, tmp_path: Path) -> None:
    made = outbox(server, tmp_path, KEEPING)
    made.put(rows(0))
    assert made.send(rows(1), 1.0) is False
    assert made.wait_until_empty(1.0) is False
    assert made.close(1) is False
    assert kept(tmp_path) == [BEGIN, rows(0), rows(1)]
    assert server.taken == []


@pytest.mark.parametrize(
    "error",
    [errors.Gone("trashed"), errors.Forbidden("no permission"), errors.Illegal("archived"), errors.NotFound("no")],
)
def test_a_refusal_keeps_everything_and_asks_no_more(
    server: Server, tmp_path: Path, error: errors.LabkeepError
) -> None:
    server.error = error
    made = outbox(server, tmp_path)
    made.put(rows(0))
    made.put(rows(1))
    time.sleep(0.1)
    server.error = None
    made.put(rows(2))
    assert made.close(1) is False
    assert made.mode == KEEPING
    assert kept(tmp_path) == [BEGIN, rows(0), rows(1), rows(2)]
    assert server.taken == []


def test_an_edit_that_is_refused_costs_only_the_value_that_is_wrong(tmp_path: Path) -> None:
    taken: list[Op] = []

    def picky(op: Op) -> None:
        if isinstance(op, Change) and "bad" in op.fields.get("config", {}):
            raise errors.Invalid("not that")
        taken.append(op)

    made = Outbox("test", picky, Spool(tmp_path / "a.spool", BEGIN))
    made.start()
    ticket = Ticket()
    made.put(Change({"name": "n", "config": {"good": 1, "bad": 2, "fine": 3}}), ticket)
    assert ticket.wait(2) is True
    assert made.close(1) is True
    assert taken == [Change({"name": "n", "config": {"good": 1}}), Change({"config": {"fine": 3}})]


def test_a_disk_that_takes_nothing_is_a_warning(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    made = Outbox("test", server, Spool(tmp_path / "file" / "a.spool", BEGIN), mode=KEEPING)
    made.start()
    made.put(rows(0))
    assert made.close(1) is True
    assert "it is lost" in caplog.text
