"""A store of either kind with everything that removals touch, in few words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from labkeep.core.access import Actor
from labkeep.core.columns import from_rows
from labkeep.core.commands import AttachFile, Get, ListFiles, ListRuns, ReadHistory, ReadRows, RowIn, WriteRows
from labkeep.core.entities import Item, Run
from labkeep.core.removals import Part, PurgeRemoval, Removal, Remove, RestoreRemoval
from labkeep.operations import Store, files, history, removals, rows, runs
from labkeep.operations.history import ListSeries
from labkeep.server import make_worker
from labkeep.settings import Settings
from labkeep.storage import check
from labkeep.storage.blobs import MemoryBlobs
from labkeep.storage.database_postgres import Postgres
from labkeep.testing.factories import FixedClock, make_actor, make_store


@contextmanager
def open_lab(folder: Path, postgres_url: str = "") -> Iterator[Lab]:
    """A lab on SQLite, or on the PostgreSQL database of ``postgres_url``."""
    clock = FixedClock()
    if not postgres_url:
        with make_store(folder, clock) as store:
            yield _lab(store, clock)
        return
    store = Store(Postgres(postgres_url, readers=2, clock=clock), MemoryBlobs(), Settings(data=str(folder)))
    try:
        yield _lab(store, clock)
    finally:
        store.database.close()
        store.blobs.close()


def _lab(store: Store, clock: FixedClock) -> Lab:
    store.database.seal_min_rows = 1
    return Lab(store, make_actor(store.database), clock)


class Lab(NamedTuple):
    store: Store
    actor: Actor
    clock: FixedClock

    def write(self, operation: Any, command: Any, actor: Actor | None = None) -> Any:
        return self.store.database.write(operation, actor or self.actor, command)

    def read(self, operation: Any, command: Any, actor: Actor | None = None) -> Any:
        return self.store.database.read(operation, actor or self.actor, command)

    # --- what tests put in and look at

    def rows(self, owner: Item, **data: Any) -> int:
        given = [RowIn(id=id, data=value) for id, value in data.items()]
        return int(self.write(rows.write, WriteRows(id=owner.id, rows=given)).xact)

    def shown_rows(self, owner: Item, **fields: Any) -> dict[str, Any]:
        return {row.id: row.data for row in self.read(rows.read, ReadRows(id=owner.id, **fields)).items}

    def stats(self, owner: Item) -> Any:
        found = self.read(rows.stats, Get(id=owner.id))
        return found.rows, found.scores

    def log(self, run: Run, *given: dict[str, Any], stream: str = "history", offset: int | None = None) -> None:
        self.write(history.append, history.prepare_batch(run.id, stream, offset, from_rows(numbered(given))))

    def shown(self, run: Run, stream: str = "history", **fields: Any) -> list[dict[str, Any]]:
        found = history.read(self.store, self.actor, ReadHistory(id=run.id, stream=stream, **fields))
        return list(found.table.rows())

    def series(self, run: Run, stream: str = "history") -> dict[str, Any]:
        page = self.read(history.list_series, ListSeries(id=run.id, stream=stream))
        return {one.key: (one.count, one.first, one.last, one.min, one.max, one.last_step) for one in page.items}

    def get(self, run: Item) -> Run:
        found = self.read(runs.get, Get(id=run.id))
        assert isinstance(found, Run)
        return found

    def found(self, q: str) -> list[str]:
        return [run.id for run in self.read(runs.list_, ListRuns(q=q)).items]

    def file(self, owner: Item, path: str, content: bytes) -> None:
        with self.store.blobs.begin(self.actor.organization_id) as upload:
            upload.write(content)
            stored = upload.finish()
        files.keep(self.store, self.actor, stored)
        self.write(files.attach, AttachFile(id=owner.id, path=path, digest=stored.digest, size=stored.size))

    def paths(self, owner: Item) -> list[str]:
        return [file.path for file in self.read(files.list_, ListFiles(id=owner.id)).items]

    def seal(self, run: Run, stream: str = "history") -> None:
        history.seal(self.store, self.actor, run.id, stream)

    # --- verbs

    def remove(self, owner: Item, part: Part, actor: Actor | None = None, **fields: Any) -> Removal:
        removal = self.write(removals.remove, Remove(id=owner.id, part=part, **fields), actor)
        assert isinstance(removal, Removal)
        return removal

    def restore(self, removal: Removal, **fields: Any) -> Removal:
        found = self.write(removals.restore, RestoreRemoval(id=removal.id, **fields))
        assert isinstance(found, Removal)
        return found

    def purge(self, removal: Removal) -> Removal:
        self.write(removals.purge, PurgeRemoval(id=removal.id))
        self.work()
        found = self.read(removals.get, Get(id=removal.id))
        assert found.state == "purged", found
        assert isinstance(found, Removal)
        return found

    def work(self) -> None:
        make_worker(self.store).run_all()

    def assert_sound(self) -> None:
        with self.store.database.engine.connect() as connection:
            report = check.run(connection, self.store.blobs, self.clock(), deep=True)
        assert report.clean, report.problems


def numbered(given: Sequence[Mapping[str, Any]]) -> list[tuple[int, float | None, dict[str, Any]]]:
    return [
        (row.get("_step", n), row.get("_timestamp"), {k: v for k, v in row.items() if not k.startswith("_")})
        for n, row in enumerate(given)
    ]
