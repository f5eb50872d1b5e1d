"""A store with a project that encrypts, on either database, with a word of its own in every field that is encrypted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from labkeep.core.access import Actor
from labkeep.core.columns import encode_rows
from labkeep.core.commands import (
    AppendHistory,
    Apply,
    AttachFile,
    CommitVersion,
    CreateArtifactVersion,
    CreateDocument,
    CreateProject,
    CreateRun,
    FinishRun,
    Get,
    GetFile,
    GetVersion,
    ManifestEntry,
    PurgeDeletion,
    ReadHistory,
    ReadRows,
    RowIn,
    Selection,
    WriteRows,
)
from labkeep.core.entities import Deletion, Project, Run
from labkeep.operations import artifacts, deletions, documents, files, history, projects, rows, runs
from labkeep.server import check_store, close_store, make_worker, open_store, prepare
from labkeep.settings import Settings
from labkeep.testing.factories import make_actor

MASTER = "aa" * 32
OTHER_MASTER = "bb" * 32


class EncryptedLab:
    """An open store, its owner and its worker. ``start`` and ``stop`` may be called again."""

    def __init__(self, folder: Path, database_url: str = "", **settings: Any) -> None:
        self.folder, self.database_url = folder, database_url
        self.start(master_key=MASTER, **settings)
        self.actor: Actor = make_actor(self.store.database)

    def start(self, **settings: Any) -> None:
        """Open the store."""
        given = {"data": str(self.folder), "database_url": self.database_url, "seal_min_rows": 4} | settings
        self.store = open_store(Settings(**given))
        prepare(self.store)
        self.worker = make_worker(self.store)

    def stop(self) -> None:
        """Close the store."""
        close_store(self.store)

    def write(self, operation: Callable[..., Any], command: Any) -> Any:
        """Run a write."""
        return self.store.database.write(operation, self.actor, command)

    def read(self, operation: Callable[..., Any], command: Any) -> Any:
        """Run a read."""
        return self.store.database.read(operation, self.actor, command)

    def check(self, **settings: Any) -> list[tuple[str, str]]:
        """What a deep check of the store finds: subject and message."""
        given = {"data": str(self.folder), "database_url": self.database_url, "master_key": MASTER} | settings
        return [(one.subject, one.message) for one in check_store(Settings(**given), deep=True).problems]

    # --- making things

    def project(self, name: str = "secret", **settings: Any) -> Project:
        """A project; one that encrypts unless told otherwise."""
        made: Project = self.write(projects.create, CreateProject(name=name, settings={"encrypt": True} | settings))
        return made

    def run(self, word: str, project: str = "secret") -> Run:
        """A finished run with the word in everything that is encrypted: sealed and open history, rows, and a file."""
        run: Run = self.write(runs.create, CreateRun(project=project))
        for start in (0, 2):
            self.log(run.id, [{"_step": step, "note": f"{word}-sealed-{step}"} for step in (start, start + 1)])
        self.write(
            rows.write, WriteRows(id=run.id, rows=[RowIn(id="r1", data={"input": f"{word}-row", "n": "x" * 900})])
        )
        self.upload(run.id, "file.txt", f"{word}-file".encode())
        self.write(runs.finish, FinishRun(id=run.id))
        self.worker.run_all()
        self.log(run.id, [{"_step": 9, "note": f"{word}-open"}])
        return run

    def log(self, run_id: str, found: list[dict[str, Any]], offset: int | None = None) -> None:
        """Append rows to the history of a run."""
        self.write(
            history.append,
            AppendHistory(
                id=run_id,
                batch=encode_rows([(row["_step"], None, {"note": row["note"]}) for row in found]),
                offset=offset,
            ),
        )

    def upload(self, owner_id: str, path: str, data: bytes) -> str:
        """Upload and attach a file; answers its digest."""
        stored = files.put(self.store, self.actor, files.UploadTo(id=owner_id), data)
        self.write(files.attach, AttachFile(id=owner_id, path=path, digest=stored.digest, size=len(data)))
        return stored.digest

    def document(self, word: str, project: str = "secret") -> str:
        """A document with the word in a body and in a row."""
        body = {"prompt": f"{word}-body-1"}
        made = self.write(documents.create, CreateDocument(project=project, type="prompt", name=word, body=body))
        self.write(documents.commit, CommitVersion(id=made.id, body={"prompt": f"{word}-body-2"}))
        self.write(rows.write, WriteRows(id=made.id, rows=[RowIn(id="item", data={"input": f"{word}-item"})]))
        return str(made.id)

    def artifact(self, word: str, project: str = "secret") -> str:
        """An artifact version with the word in a file; answers its id."""
        data = f"{word}-artifact".encode()
        digest = files.put(self.store, self.actor, files.UploadTo(project=project), data).digest
        entry = ManifestEntry(path="a.bin", digest=digest, size=len(data))
        asked = CreateArtifactVersion(project=project, name="model", files=[entry])
        return str(self.write(artifacts.create_version, asked).id)

    # --- reading them

    def history(self, run_id: str) -> list[Any]:
        """The notes of a run's history."""
        found = history.read(self.store, self.actor, ReadHistory(id=run_id, stream="history"))
        return list(found.table.columns["note"].values)

    def rows(self, owner_id: str) -> list[Any]:
        """The data of the rows of an owner."""
        return [row.data for row in self.read(rows.read, ReadRows(id=owner_id)).items]

    def body(self, document_id: str, number: int | None = None) -> Any:
        """The body of a version."""
        return self.read(documents.get_version, GetVersion(id=document_id, number=number)).body

    def content(self, owner_id: str, path: str = "file.txt") -> bytes:
        """The content of a file."""
        return files.read(self.store, self.actor, GetFile(id=owner_id, path=path))

    # --- the lifecycle

    def purge(self, *ids: str) -> Deletion:
        """Trash and purge."""
        applied = self.write(deletions.apply, Apply(selection=Selection(ids=list(ids)), force=True))
        self.write(deletions.purge, PurgeDeletion(id=applied.deletion_id))
        self.worker.run_all()
        found: Deletion = self.read(deletions.get, Get(id=applied.deletion_id))
        return found

    # --- what lies on disk

    def copy(self, to: Path) -> Path:
        """A copy of all that is stored, as a backup makes it: the folder, and the tables of a PostgreSQL database."""
        shutil.copytree(self.folder, to)
        if self.database_url:
            (to / "dump").write_bytes(_dump(self.database_url))
        return to

    def found_on_disk(self, word: str) -> list[str]:
        """Files of the store, and the database, that hold the word: as it is, or inside of what is compressed."""
        from tests.fault.processes import find

        copied = self.copy(self.folder.parent / f"look-{word}")
        found = find(copied, [word]).get(word, [])
        found += [str(path) for path in copied.rglob("*") if path.is_file() and _in_parquet(path, word)]
        shutil.rmtree(copied)
        return found


def _in_parquet(path: Path, word: str) -> bool:
    data = path.read_bytes()
    if not data.endswith(b"PAR1"):
        return False
    return word in str(pq.read_table(pa.BufferReader(data)).to_pylist())


def _dump(url: str) -> bytes:
    with closing(psycopg.connect(url.replace("+psycopg", ""))) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        parts: list[bytes] = []
        for (name,) in names:
            for row in connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(name))):
                parts += [bytes(value) if isinstance(value, bytes) else str(value).encode() for value in row]
        return b"\n".join(parts)
