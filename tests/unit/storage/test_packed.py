"""Many ids as one parameter: the same ids come out, whatever their number."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkeep.core.access import Actor
from labkeep.core.ids import IdSource
from labkeep.storage.database_sqlite import Sqlite
from labkeep.storage.packed import packed
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import make_actor


@pytest.mark.parametrize("count", [0, 1, 2_000])
def test_what_goes_in_comes_out(tmp_path: Path, count: int) -> None:
    source = IdSource()
    ids = [source.new(number) for number in range(count)]

    def read(tx: Tx, _actor: Actor, _command: None) -> list[str]:
        return [row[0] for row in tx.execute(packed(ids, tx.database))]

    def read_words(tx: Tx, _actor: Actor, _command: None) -> list[tuple[str, str]]:
        return [(row[0], row[1]) for row in tx.execute(packed(ids, tx.database, [f"é {id}" for id in ids]))]

    database = Sqlite(tmp_path / "labkeep.db")
    assert database.read(read, make_actor(database), None) == ids
    if ids:
        assert database.read(read_words, make_actor(database), None) == [(id, f"é {id}") for id in ids]
    database.close()
