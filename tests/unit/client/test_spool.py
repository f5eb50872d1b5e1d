"""Spool files: what was written is read, whatever happened to the end."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import labkeep
from labkeep import Labkeep, errors
from labkeep.client import spool
from labkeep.client.spool import Begin, Change, End, Entry, Op, PutArtifact, PutFile, Rows, Spool
from labkeep.core.columns import encode_rows
from tests.unit.client.fake_server import FakeServer

RUN = "00000000-0000-7000-8000-000000000007"
BEGIN = Begin(run={"id": RUN, "project": "p"})
OPS: list[Op] = [
    Change({"name": "n", "config": {"a": 1.5}}),
    Rows("history", 0, 2, encode_rows([(0, None, {"a": 1}), (1, 2.5, {"a": 2})])),
    PutFile(Entry("a.txt", "sha256:00", 3)),
    PutArtifact(name="m", type="model", entries=[Entry("r", "s3://x", 0, reference=True)], metadata={"k": [1]}),
    End(status="finished", at="2026-11-01T12:00:00Z", exit_code=0, summary={"a": 2}),
]


def written(path: Path) -> bytes:
    made = Spool(path, BEGIN)
    for op in OPS:
        made.append(op)
    made.close()
    return path.read_bytes()


def ops(path: Path) -> list[Op]:
    return [op for _, op in spool.read(path)]


def test_what_was_put_in_is_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.spool"
    written(path)
    assert ops(path) == [BEGIN, *OPS]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    positions = [position for position, _ in spool.read(path)]
    assert [op for _, op in spool.read(path, positions[2])] == OPS[2:]


@given(st.data())
def test_a_torn_tail_costs_the_torn_record_only(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("torn") / "a.spool"
    whole = written(path)
    ends = [0, *(position for position, _ in spool.read(path))]
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut] + data.draw(st.sampled_from([b"", b"\0" * 20, b"\xff" * 20])))
    survived = sum(end <= cut for end in ends) - 1
    assert ops(path)[:survived] == [BEGIN, *OPS][:survived]
    assert len(ops(path)) <= survived + 1
    again = Spool(path, BEGIN)
    again.append(OPS[0])
    again.close()
    assert ops(path)[-1] == OPS[0]
    assert ops(path)[0] == BEGIN


def test_a_changed_byte_ends_the_file_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.spool"
    whole = bytearray(written(path))
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    read = ops(path)
    assert 0 < len(read) < len(OPS) + 1
    assert read == [BEGIN, *OPS][: len(read)]


def test_one_process_writes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.spool"
    first = Spool(path, BEGIN)
    first.open()
    with pytest.raises(errors.Unavailable, match="in use"):
        Spool(path, BEGIN).open()
    assert spool.claim(path) is None
    first.close()
    claimed = spool.claim(path)
    assert claimed is not None
    assert spool.claim(path) is None
    spool.discard(path, claimed)
    assert spool.claim(path) is None


# --- sync


def test_a_file_that_is_being_written_is_left_alone(server: FakeServer, spool_dir: Path) -> None:
    with labkeep.init(mode="offline") as run:
        run.log({"a": 1})
        (busy,) = labkeep.sync()
        assert busy.outcome == "busy"
        assert server.runs == {}
    assert [done.outcome for done in labkeep.sync()] == ["sent"]


def test_syncing_twice_doubles_nothing(server: FakeServer, tmp_path: Path) -> None:
    kept = written(tmp_path / "a.spool")
    with Labkeep() as client:
        for _ in range(2):
            (tmp_path / "a.spool").write_bytes(kept)
            (done,) = labkeep.sync(tmp_path, client=client)
            assert (done.outcome, done.rows) == ("sent", 2)
        assert client.me().user == "ada"
    assert [row["a"] for row in server.rows(RUN)] == [1, 2]
    assert len(server.runs) == 1


def test_a_sync_that_was_interrupted_goes_on(server: FakeServer, tmp_path: Path) -> None:
    written(tmp_path / "a.spool")
    server.key = "lk-other"
    (kept,) = labkeep.sync(tmp_path)
    assert (kept.outcome, kept.message) == ("kept", "this key is unknown")
    server.key = "lk-test"
    assert labkeep.sync(tmp_path)[0].outcome == "sent"


def test_a_run_of_another_server_is_sent_only_when_that_is_meant(server: FakeServer, tmp_path: Path) -> None:
    made = Spool(tmp_path / "a.spool", Begin(run={"id": RUN, "project": "p"}, url="http://other:1"))
    made.open()
    made.close()
    (kept,) = labkeep.sync(tmp_path)
    assert (kept.outcome, kept.message) == ("kept", "it belongs to http://other:1; name it to send it there")
    assert labkeep.sync(tmp_path, url=server.url)[0].outcome == "sent"


def test_a_file_that_was_saved_twice_is_sent_twice(server: FakeServer, spool_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("same")
    (tmp_path / "b.txt").write_text("same")
    with labkeep.init(mode="offline") as run:
        run.save(tmp_path / "*.txt", base_path=tmp_path)
    spooled = {file: file.read_bytes() for file in spool_dir.glob("*.spool")}
    assert {done.outcome for done in labkeep.sync()} == {"sent"}
    assert {path for _, path in server.files} == {"a.txt", "b.txt"}
    for file, content in spooled.items():  # as if the process had ended before it removed them
        file.write_bytes(content)
    assert {done.outcome for done in labkeep.sync()} == {"sent"}
    assert len(server.asked("PUT", f"/files/{run.id}")) == 2
    assert [path for path in spool_dir.glob("**/*") if path.is_file()] == []


def test_what_is_no_spool_is_kept_and_named(server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "a.spool").write_bytes(b"not a spool at all")
    (kept,) = labkeep.sync(tmp_path)
    assert kept.outcome == "kept"
    assert "does not say which run" in kept.message
