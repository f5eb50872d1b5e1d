"""What SQLite leaves between the cells of its pages: there before, gone after, and nothing else touched."""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from labkeep.core.errors import Corrupt
from labkeep.storage import scrub
from labkeep.storage.scrub import Scrubber, _Layout

PRAGMAS = ("auto_vacuum=INCREMENTAL", "journal_mode=WAL", "synchronous=OFF", "secure_delete=ON")
TENANT = b"t" * 16


def shuffled(path: Path, seed: int, rows: int = 3_000) -> None:
    """A database in which trees were rebalanced often, and every third row was deleted again."""
    dice = random.Random(seed)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for pragma in PRAGMAS:
            db.execute(f"PRAGMA {pragma}")
        db.execute("CREATE TABLE compact (tenant BLOB, id BLOB, name TEXT, PRIMARY KEY (tenant, id)) WITHOUT ROWID")
        db.execute("CREATE TABLE plain (tenant BLOB, id BLOB, name TEXT, PRIMARY KEY (tenant, id))")
        db.execute("CREATE INDEX plain_name ON plain (name)")
        db.execute("BEGIN")
        going: list[bytes] = []
        for number in range(rows):
            id, word = dice.randbytes(16), "keep" if number % 3 else "secret"
            # Some are so long that they need overflow pages.
            name = f"{word} {number} " + "x" * dice.choice((0, 50, 200, 200, 6_000))
            for table in ("compact", "plain"):
                db.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", (TENANT, id, name))
            if number % 7 == 0:
                db.execute("UPDATE compact SET name = name || 'longer' WHERE tenant = ? AND id = ?", (TENANT, id))
            if word == "secret":
                going.append(id)
        db.execute("COMMIT")
        dice.shuffle(going)
        db.execute("BEGIN")
        for id in going:
            for table in ("compact", "plain"):
                db.execute(f"DELETE FROM {table} WHERE tenant = ? AND id = ?", (TENANT, id))
        db.execute("COMMIT")
        db.executescript("PRAGMA incremental_vacuum(50)")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def leftovers(path: Path) -> int:
    return len(re.findall(rb"secret \d+", path.read_bytes()))


def content(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [row for table in ("compact", "plain") for row in db.execute(f"SELECT * FROM {table} ORDER BY id")]


def scrubbed(path: Path) -> Iterator[int]:
    with closing(Scrubber(path)) as scrubber:
        due = scrubber.due()
        while due:
            scrubber.step(due)
            yield len(due)


def test_secure_delete_alone_leaves_copies_between_the_cells(tmp_path: Path) -> None:
    for seed in range(3):
        shuffled(tmp_path / f"{seed}.db", seed)
    assert sum(leftovers(tmp_path / f"{seed}.db") for seed in range(3)) > 0


@pytest.mark.parametrize("seed", range(3))
def test_after_scrubbing_no_copy_is_left_and_every_row_is_as_before(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "some.db"
    shuffled(path, seed)
    before, size = content(path), path.stat().st_size
    assert list(scrubbed(path)) == [0]
    assert leftovers(path) == 0
    assert (content(path), path.stat().st_size) == (before, size)


def test_scrubbing_in_many_steps_comes_to_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.db"
    shuffled(path, 1)
    before = content(path)
    monkeypatch.setattr(scrub, "STRETCH", 7)
    monkeypatch.setattr(scrub, "STEP", 2)
    left = list(scrubbed(path))
    assert len(left) > 2
    assert left == [*range(left[0], 0, -2), 0]
    assert (leftovers(path), content(path)) == (0, before)


def test_scrubbing_again_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    shuffled(path, 1)
    list(scrubbed(path))
    before = path.read_bytes()
    list(scrubbed(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("page_bytes", [512, 65_536])
def test_pages_of_every_size_are_understood(tmp_path: Path, page_bytes: int) -> None:
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size={page_bytes}")
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")
        db.execute("CREATE TABLE some (id INTEGER PRIMARY KEY, name TEXT)")
    shuffled(path, 1, rows=600)
    before = content(path)
    list(scrubbed(path))
    assert (leftovers(path), content(path)) == (0, before)


def test_a_file_without_a_pointer_map_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE some (id INTEGER PRIMARY KEY)")
    before = path.read_bytes()
    with pytest.raises(Corrupt, match="no pointer map"):
        list(scrubbed(path))
    assert path.read_bytes() == before


def test_the_pointer_map_steps_aside_for_the_lock_byte() -> None:
    layout = _Layout(page_bytes=4_096, usable=4_096, pages=400_000)
    lock_page = (1 << 30) // 4_096 + 1
    assert [layout.map_of(page) for page in (3, 821, 822, 823)] == [2, 2, 822, 822]
    assert layout.map_of(lock_page + 1) != lock_page
    exact = _Layout(page_bytes=1_024, usable=1_024, pages=1)  # group of 205 pages: a map would fall on the lock page
    at = next(p for p in range((1 << 30) // 1_024 - 300, (1 << 30) // 1_024 + 300) if exact.map_of(p) == p)
    assert at != (1 << 30) // 1_024 + 1


def pages_of(path: Path) -> dict[int, bytes]:
    data = path.read_bytes()
    return {at // 4_096 + 1: data[at : at + 4_096] for at in range(0, len(data), 4_096)}


def pages_in(stretches: set[int]) -> set[int]:
    return {stretch * scrub.STRETCH + page for stretch in stretches for page in range(scrub.STRETCH)}


def test_only_what_was_written_since_is_looked_at_again(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    shuffled(path, 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as db, closing(Scrubber(path)) as scrubber:
        db.execute("PRAGMA secure_delete=ON")
        db.execute("PRAGMA wal_autocheckpoint=10")
        everything = scrubber.due()
        assert pages_in(everything) >= set(range(1, path.stat().st_size // 4_096 + 1))
        scrubber.step(everything)
        scrubber.written.note()
        assert (everything, scrubber.due()) == (set(), set())
        before = pages_of(path)
        db.execute("UPDATE plain SET name = 'one row' WHERE rowid = 2")
        scrubber.written.note()
        assert 0 < len(scrubber.due()) < 5
        # Over and over, so that the log is written from its start again many times.
        for number in range(300):
            db.execute("INSERT INTO plain VALUES (?, ?, 'more')", (TENANT, random.Random(number).randbytes(16)))
            scrubber.written.note()
        assert not scrubber.written.everything
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        changed = {number for number, page in pages_of(path).items() if before.get(number) != page}
        assert len(changed) > 30
        assert changed <= pages_in(scrubber.due())


def test_a_log_that_nobody_read_may_have_held_anything(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    shuffled(path, 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as db, closing(Scrubber(path)) as scrubber:
        db.execute("UPDATE plain SET name = 'one row' WHERE rowid = 2")
        scrubber.written.note()
        scrubber.step(scrubber.due())
        for _ in range(2):
            db.execute("PRAGMA wal_checkpoint(RESTART)")
            db.execute("UPDATE plain SET name = 'another' WHERE rowid = 2")
        scrubber.written.note()
        assert scrubber.written.everything


def test_what_was_taken_back_in_the_log_hides_nothing_that_comes_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    shuffled(path, 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as db, closing(Scrubber(path)) as scrubber:
        db.execute("PRAGMA cache_size=5")  # what does not fit into it stands in the log before the commit
        db.execute("PRAGMA wal_autocheckpoint=0")
        scrubber.step(scrubber.due())
        db.execute("BEGIN")
        db.execute("UPDATE plain SET name = name || 'x' WHERE rowid < 500")
        db.execute("ROLLBACK")
        scrubber.written.note()
        assert scrubber.written.stretches
        scrubber.written.stretches.clear()
        db.execute("UPDATE compact SET name = 'one row' WHERE id = (SELECT max(id) FROM compact)")
        scrubber.written.note()
        assert scrubber.due()
