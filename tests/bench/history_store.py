"""Speed and size of stored histories, without HTTP: ``python tests/bench/history_store.py [rows]``. Prints; asserts nothing.

SQLite and blobs in a temporary folder, on disk as a server has them: every acknowledged append is durable. The series is
that of ``history_codec.py``: four metrics with timestamps.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labkeep.core import columns
from labkeep.core.access import Actor
from labkeep.core.commands import AppendHistory, ReadHistory
from labkeep.core.lifecycle import Status
from labkeep.operations import Store, history
from labkeep.settings import Settings
from labkeep.storage.blobs_local import LocalBlobs
from labkeep.storage.histories import Prepared
from labkeep.storage.opening import open_database
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import make_actor, make_project, make_run
from tests.bench.history_codec import METRICS, data

BATCH = 10_000
SINGLE = 3_000


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    database = open_database("", data=folder)
    blobs = LocalBlobs(folder / "blobs")
    try:
        yield Store(database, blobs, Settings(data=str(folder)))
    finally:
        database.close()
        blobs.close()


def size(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def encoded(rows: int, batch: int) -> list[tuple[int, bytes]]:
    steps, seconds, values = data(rows)
    return [
        (
            start,
            columns.encode_columns(
                steps[start : start + batch],
                {key: values[key][start : start + batch] for key in METRICS},
                seconds[start : start + batch],
            ),
        )
        for start in range(0, rows, batch)
    ]


def append_all(store: Store, actor: Actor, run_id: str, bodies: list[tuple[int, bytes]]) -> None:
    pending: list[Future[Any]] = []
    for offset, body in bodies:
        command = AppendHistory(id=run_id, offset=offset, batch=body)
        pending.append(store.database.submit(history.append, actor, history.prepare(command)))
    for future in pending:
        future.result()


def bulk(store: Store, actor: Actor, rows: int) -> str:
    bodies = encoded(rows, BATCH)
    speeds = []
    for _ in range(3):
        run = make_run(store.database, actor, status=Status.finished)
        start = time.perf_counter()
        append_all(store, actor, run.id, bodies)
        speeds.append(rows * len(METRICS) / (time.perf_counter() - start))
    print(f"bulk append, {BATCH} rows a batch            {max(speeds) / 1e6:8.2f} M points/s")
    return run.id


def single(store: Store, actor: Actor) -> str:
    """One row a request, each waited for: what `log` costs when it must be durable."""
    run = make_run(store.database, actor)
    inside: list[float] = []
    waited: list[float] = []

    def timed(tx: Tx, actor: Actor, batch: Prepared) -> None:
        start = time.perf_counter()
        history.append(tx, actor, batch)
        inside.append(time.perf_counter() - start)

    for offset, body in encoded(SINGLE, 1):
        start = time.perf_counter()
        batch = history.prepare(AppendHistory(id=run.id, offset=offset, batch=body))
        store.database.write(timed, actor, batch)
        waited.append(time.perf_counter() - start)
    for name, times in (("inside the transaction", inside), ("acknowledged as durable", waited)):
        ordered = sorted(times)
        print(
            f"single row, {name:<24} p50 {statistics.median(times) * 1e3:7.3f} ms   "
            f"p99 {ordered[int(len(ordered) * 0.99)] * 1e3:7.3f} ms   mean {statistics.mean(times) * 1e3:7.3f} ms   "
            f"{len(times) / sum(times):7.0f}/s"
        )
    bodies = encoded(SINGLE, 1)
    start = time.perf_counter()
    append_all(store, actor, make_run(store.database, actor).id, bodies)
    print(f"single rows, in one queue                {SINGLE / (time.perf_counter() - start):8.0f} rows/s")
    return run.id


def timed(name: str, work: Callable[[], Any], repeat: int = 7) -> None:
    work()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    print(f"{name:<40} {statistics.median(times) * 1e3:8.2f} ms")


def reads(store: Store, actor: Actor, run_id: str, what: str) -> None:
    def wire(**query: Any) -> int:
        return len(history.read(store, actor, ReadHistory(id=run_id, **query)).table.to_wire())

    timed(f"{what}: one metric", lambda: wire(keys=["loss"]))
    timed(f"{what}: all metrics", lambda: wire())
    timed(f"{what}: one metric, 1,000 buckets", lambda: wire(keys=["loss"], buckets=1000))
    timed(f"{what}: first 10,000 rows", lambda: wire(limit=10_000))
    timed(f"{what}: 1,000 steps of one metric", lambda: wire(keys=["loss"], first_step=5_000, last_step=5_999))


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with opened(folder) as store:
            actor = make_actor(store.database)
            make_project(store.database, actor)
            run_id = bulk(store, actor, rows)
            reads(store, actor, run_id, f"{rows} rows in chunks")
            start = time.perf_counter()
            sealed = history.seal(store, actor, run_id, "history")
            print(f"seal {sealed} rows                        {(time.perf_counter() - start) * 1e3:8.2f} ms")
            reads(store, actor, run_id, f"{rows} rows in a segment")
            reads(store, actor, single(store, actor), f"{SINGLE} single rows")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with opened(folder) as store:
            actor = make_actor(store.database)
            run = make_run(store.database, actor, status=Status.finished)
        before = size(folder)
        with opened(folder) as store:
            append_all(store, actor, run.id, encoded(rows, BATCH))
            store.database.reclaim().result()
            points = rows * len(METRICS)
            print(f"bytes a point on disk, in chunks         {(size(folder) - before) / points:8.2f}")
            history.seal(store, actor, run.id, "history")
        print(f"bytes a point on disk, sealed            {(size(folder) - before) / points:8.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
