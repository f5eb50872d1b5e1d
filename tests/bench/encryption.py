"""Logging, rows, uploads and reading, encrypted against plain: milliseconds of CPU, and the ratio of the two.

    python tests/bench/encryption.py [REPEATS]

In one process, without HTTP: the server's own work, all threads counted, waiting for the disk not. The two kinds take
turns, and each number is the median.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from labkeep.core.access import Actor
from labkeep.core.columns import encode_rows
from labkeep.core.commands import (
    AppendHistory,
    AttachFile,
    CreateProject,
    CreateRun,
    GetFile,
    ReadHistory,
    ReadRows,
    RowIn,
    WriteRows,
)
from labkeep.operations import Store, files, history, projects, rows, runs
from labkeep.server import close_store, open_store, prepare
from labkeep.settings import Settings
from labkeep.testing.factories import make_actor

APPENDS, BATCH_ROWS, ROWS, FILE_BYTES = 200, 100, 500, 32 * 2**20


class Subject:
    """A project, and what is measured on it."""

    def __init__(self, store: Store, actor: Actor, name: str, encrypt: bool) -> None:
        self.store, self.actor, self.name = store, actor, name
        store.database.write(projects.create, actor, CreateProject(name=name, settings={"encrypt": encrypt}))
        self.run_id = ""

    def begin(self) -> None:
        """A new run."""
        self.run_id = self.store.database.write(runs.create, self.actor, CreateRun(project=self.name)).id

    def log(self) -> None:
        """Many small batches, each durable before the next."""
        found = [(step, None, {"loss": 1 / (step + 1), "acc": step * 0.5}) for step in range(BATCH_ROWS)]
        for _ in range(APPENDS):
            self.store.database.write(
                history.append, self.actor, AppendHistory(id=self.run_id, batch=encode_rows(found))
            )

    def read_log(self) -> None:
        """All rows of the history."""
        history.read(self.store, self.actor, ReadHistory(id=self.run_id, stream="history"))

    def write_rows(self) -> None:
        """Rows of about a kilobyte, in one write."""
        written = [RowIn(id=f"r{number}", data={"input": f"{number} " * 200}) for number in range(ROWS)]
        self.store.database.write(rows.write, self.actor, WriteRows(id=self.run_id, rows=written))

    def read_rows(self) -> None:
        """A page of all of them."""
        self.store.database.read(rows.read, self.actor, ReadRows(id=self.run_id, limit=ROWS))

    def upload(self) -> None:
        """One file, on disk when it ends."""
        data = self.run_id.encode() * (FILE_BYTES // 36)
        stored = files.put(self.store, self.actor, files.UploadTo(id=self.run_id), data)
        attach = AttachFile(id=self.run_id, path="big", digest=stored.digest, size=stored.size)
        self.store.database.write(files.attach, self.actor, attach)

    def download(self) -> None:
        """The same file."""
        files.read(self.store, self.actor, GetFile(id=self.run_id, path="big"))


MEASURED: tuple[Callable[[Subject], None], ...] = (
    Subject.log,
    Subject.read_log,
    Subject.write_rows,
    Subject.read_rows,
    Subject.upload,
    Subject.download,
)


def main(repeats: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Settings(data=str(Path(folder) / "data"), master_key="d3" * 32))
        prepare(store)
        actor = make_actor(store.database)
        subjects = [Subject(store, actor, "plain", False), Subject(store, actor, "encrypted", True)]
        taken: dict[tuple[str, str], list[float]] = {}
        for repeat in range(repeats + 1):
            for subject in subjects if repeat % 2 else reversed(subjects):
                subject.begin()
                for measured in MEASURED:
                    start = time.process_time()
                    measured(subject)
                    if repeat:  # the first time warms up
                        taken.setdefault((measured.__name__, subject.name), []).append(time.process_time() - start)
        close_store(store)
    print(f"{'':12}{'plain ms':>10}{'encrypted':>11}{'ratio':>7}")
    for measured in MEASURED:
        plain, encrypted = (statistics.median(taken[measured.__name__, subject.name]) for subject in subjects)
        print(f"{measured.__name__:12}{plain * 1e3:10.1f}{encrypted * 1e3:11.1f}{encrypted / plain:7.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
