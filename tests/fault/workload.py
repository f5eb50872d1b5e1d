"""A workload of writes, and a model of what is there after each of them.

The model is plain data, by names, in the form in which `snapshot` reads the same from a server. A write that was
acknowledged has happened; one that was not has happened wholly or not at all. So after a crash a server must look like
the model before the last write, or after it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from labkeep import Labkeep
from labkeep.core.errors import Unavailable
from tests.fault.processes import wait_for_jobs

Model = dict[str, Any]
"""runs, documents, artifacts, environments: each name -> everything that a client can see of it."""

PROJECT = "faults"


PARTS: dict[str, dict[str, Any]] = {
    "row": {"ids": ["part"]},
    "metric": {"ref": "part", "stream": "parts"},
    "file": {"ref": "part.txt"},
    "console": {},
}
"""What is removed of a run, and how it is named."""


def empty() -> Model:
    return {"runs": {}, "documents": {}, "artifacts": {}, "environments": {}}


class Workload:
    """Writes through a client until it is lost. ``before`` and ``after`` are the two models that are possible then."""

    def __init__(
        self, client: Labkeep, project: str = PROJECT, rounds: int = 2, settings: dict[str, Any] | None = None
    ) -> None:
        self.client, self.project, self.rounds, self.settings = client, project, rounds, settings or {}
        self.before, self.after = empty(), empty()
        self.acknowledged = 0
        self.ids: dict[str, str] = {}
        self.erased: list[str] = []
        """Words of people who were certainly erased."""
        self.parted: list[str] = []
        """Words of parts that were certainly purged."""

    def run(self) -> bool:
        """Everything; False when the server was lost on the way."""
        try:
            for step in self._steps():
                step()
        except Unavailable:
            return False
        return True

    @property
    def purged(self) -> list[str]:
        """Words of what was certainly purged: it was acknowledged, and all jobs have ended since."""
        runs = set(self.before["runs"]) | set(self.after["runs"])
        return [self.word(name) for name in self.ids if name.startswith("doomed") and name not in runs]

    def word(self, name: str) -> str:
        """What is written into everything that belongs to a run, so that it can be looked for."""
        return f"word-of-{self.project}-{name}-word"

    @property
    def doomed(self) -> list[str]:
        """Words of everything that is purged in the end."""
        return [self.word(f"doomed-{number}") for number in range(self.rounds)]

    def _write(self, send: Callable[[], Any], change: Callable[[Model], Any]) -> Any:
        """One request, and what it does to the model once it has happened."""
        self.after = copy.deepcopy(self.before)
        change(self.after)
        answer = send()
        self.before = self.after
        self.acknowledged += 1
        return answer

    # --- the writes

    def _steps(self) -> Iterator[Callable[[], Any]]:
        yield lambda: self._write(
            lambda: self.client.projects.create(self.project, settings=self.settings), lambda _: None
        )
        for number in range(self.rounds):
            yield lambda n=number: self._run(f"kept-{n}")
            yield lambda n=number: self._run(f"doomed-{n}")
            yield lambda n=number: self._batch(n)
            yield lambda n=number: self._document(f"document-{n}")
            yield lambda n=number: self._artifact(f"artifact-{n}")
            yield lambda: wait_for_jobs(self.client)
            yield lambda n=number: self._add_parts(f"kept-{n}")
            yield lambda: wait_for_jobs(self.client)
            yield lambda n=number: self._remove_parts(f"kept-{n}")
            yield lambda: wait_for_jobs(self.client)
            yield lambda n=number: self._parted(f"kept-{n}")
            yield lambda n=number: self._person(n)
            yield lambda: wait_for_jobs(self.client)
            yield lambda n=number: self._erase(n)
            yield lambda: wait_for_jobs(self.client)
            yield lambda n=number: self.erased.append(self.word(f"person-{n}"))
            yield lambda n=number: self._trash(f"kept-{n}")
            yield lambda n=number: self._restore(f"kept-{n}")
            yield lambda n=number: self._trash(f"doomed-{n}")
            yield lambda n=number: self._purge(f"doomed-{n}")
            yield lambda: wait_for_jobs(self.client)

    def _run(self, name: str) -> None:
        c, said = self.client, self.word(name)
        config = {"lr": 0.1, "note": said}
        seen = run_seen(config=config, tags=[said])
        made = self._write(
            lambda: c.runs.create(self.project, name=name, config=config, tags=[said]),
            lambda m: m["runs"].update({name: seen}),
        )
        self.ids[name] = id = made.id
        for offset in range(0, 30, 10):
            self._history(name, offset, [{"_step": n, "loss": n / 8, "said": said} for n in range(offset, offset + 10)])
        self._history(name, 5, [{"_step": n, "loss": -1.5} for n in range(5, 8)])  # written over
        self._rows(name, {f"row-{n}": {"input": said, "scores": {"exact": n / 4}} for n in range(5)})
        self._rows(name, {"row-2": {"input": "another", "output": [1, None, {"a": said}]}})
        for path, content in {"notes.txt": said.encode(), "deep/er/data.bin": said.encode() * 3_000}.items():
            self._write(lambda p=path, b=content: c.files.upload(id, p, b), self._file(name, path, content))
        summary = {"acc": 0.9, "best": {"note": said}}
        self._write(lambda: c.runs.finish(id, summary=summary), self._set(name, status="finished", summary=summary))

    def _history(self, name: str, offset: int, rows: list[dict[str, Any]]) -> None:
        def change(model: Model) -> None:
            model["runs"][name]["history"][offset : offset + len(rows)] = rows

        self._write(lambda: self.client.runs.append_history(self.ids[name], rows, offset=offset), change)

    def _rows(self, name: str, rows: dict[str, Any]) -> None:
        sent = [{"id": id, "data": data} for id, data in rows.items()]
        self._write(
            lambda: self.client.rows.write(self.ids[name], sent), lambda m: m["runs"][name]["rows"].update(rows)
        )

    def _file(self, name: str, path: str, content: bytes) -> Callable[[Model], None]:
        return lambda model: model["runs"][name]["files"].update({path: content})

    def _set(self, name: str, **fields: Any) -> Callable[[Model], None]:
        return lambda model: model["runs"][name].update(fields)

    def _batch(self, number: int) -> None:
        names = [f"batch-{number}-{n}" for n in range(20)]
        runs = [{"project": self.project, "name": name, "config": {"n": n}} for n, name in enumerate(names)]

        def change(model: Model) -> None:
            model["runs"].update({name: run_seen(config={"n": n}) for n, name in enumerate(names)})

        self._write(lambda: self.client.runs.create_many(runs), change)

    def _document(self, name: str) -> None:
        c, bodies = self.client, [{"text": f"{name} {n}"} for n in range(2)]
        made = self._write(
            lambda: c.documents.create(self.project, "prompt", name, body=bodies[0]),
            lambda m: m["documents"].update({name: bodies[:1]}),
        )
        self._write(lambda: c.documents.commit(made.id, bodies[1]), lambda m: m["documents"].update({name: bodies}))
        self._write(
            lambda: c.environments.bind(self.project, f"env-{name}", made.id, number=1),
            lambda m: m["environments"].update({f"env-{name}": [name, 1]}),
        )

    def _artifact(self, name: str) -> None:
        c, files = self.client, {"weights.bin": name.encode() * 500, "a/b.txt": b"shared by all"}
        digests = {path: c.blobs.upload(content, project=self.project) for path, content in files.items()}
        manifest = [{"path": path, "digest": digest} for path, digest in digests.items()]

        def change(model: Model) -> None:
            model["artifacts"][f"{name}:v0"] = {"files": files, "aliases": ["latest", "best"]}

        self._write(lambda: c.artifacts.create(self.project, name, files=manifest, aliases=["best"]), change)

    def _trash(self, name: str) -> None:
        self._write(lambda: self.client.runs.trash(self.ids[name]), self._set(name, state="trashed"))

    def _restore(self, name: str) -> None:
        self._write(lambda: self.client.runs.restore(self.ids[name]), self._set(name, state="active"))

    def _purge(self, name: str) -> None:
        self._write(lambda: self.client.runs.purge(self.ids[name]), lambda m: m["runs"].pop(name))

    def _add_parts(self, name: str) -> None:
        """A row, a file, a metric and console lines that say a word which nothing else says."""
        c, id, said = self.client, self.ids[name], self.word(f"part-of-{name}")
        self._rows(name, {"part": {"input": said}})
        self._write(lambda: c.files.upload(id, "part.txt", said.encode()), self._file(name, "part.txt", said.encode()))
        rows = [{"_step": n, "part": f"{said} {n}", "kept": n} for n in range(8)]
        self._write(lambda: c.runs.append_history(id, rows, stream="parts", offset=0), lambda _: None)
        lines = [{"_step": n, "line": said} for n in range(3)]
        self._write(lambda: c.runs.append_history(id, lines, stream="console", offset=0), lambda _: None)

    def _remove_parts(self, name: str) -> None:
        for part, wanted in PARTS.items():
            self._remove_part(name, part, wanted)

    def _remove_part(self, name: str, part: str, wanted: dict[str, Any]) -> None:
        c, id = self.client, self.ids[name]

        def change(model: Model) -> None:
            run = model["runs"][name]
            (run["rows"] if part == "row" else run["files"]).pop({"row": "part", "file": "part.txt"}.get(part), None)

        removal = self._write(lambda: c.removals.remove(id, part, **wanted), change)
        back = self._write(lambda: c.removals.restore(removal.id), self._add_part(name, part))
        assert back.state == "restored"
        removal = self._write(lambda: c.removals.remove(id, part, **wanted), change)
        self._write(lambda: c.removals.purge(removal.id), lambda _: None)

    def _add_part(self, name: str, part: str) -> Callable[[Model], None]:
        said = self.word(f"part-of-{name}")

        def change(model: Model) -> None:
            if part == "row":
                model["runs"][name]["rows"]["part"] = {"input": said}
            elif part == "file":
                model["runs"][name]["files"]["part.txt"] = said.encode()

        return change

    def _person(self, number: int) -> None:
        """A run in a project of its own, whose every part speaks of one person."""
        c, said = self.client, self.word(f"person-{number}")
        self._write(lambda: c.projects.create(f"{self.project}-people", exist_ok=True), lambda _: None)
        run = self._write(
            lambda: c.runs.create(f"{self.project}-people", notes=said, status="finished"), lambda _: None
        )
        self._write(lambda: c.rows.write(run.id, [{"id": "a", "data": {"input": said}}]), lambda _: None)
        self._write(lambda: c.files.upload(run.id, "a.txt", said.encode()), lambda _: None)
        rows = [{"_step": n, "said": f"{said} {n}"} for n in range(8)]
        self._write(lambda: c.runs.append_history(run.id, rows, offset=0), lambda _: None)
        lines = [{"_step": 0, "line": said}]
        self._write(lambda: c.runs.append_history(run.id, lines, stream="console", offset=0), lambda _: None)

    def _erase(self, number: int) -> None:
        c, said = self.client, self.word(f"person-{number}")
        asked = self._write(lambda: c.erasures.create(said), lambda _: None)
        self._write(lambda: c.erasures.run(asked.id), lambda _: None)

    def _parted(self, name: str) -> None:
        self.parted.append(self.word(f"part-of-{name}"))

    # --- afterwards

    def finish(self, client: Labkeep) -> None:
        """Purge what was to be purged and is still there, as its user would after a crash."""
        runs = [*client.runs.list(self.project, state="any")] if _is_made(client, self.project) else []
        for run in runs:
            if run.name.startswith("doomed"):
                client.runs.trash(run.id, on_running="stop")
                client.runs.purge(run.id)
        for removal in [*client.removals.list(state="trashed")]:
            client.removals.purge(removal.id)
        for request in [*client.erasures.list(state="open")]:
            client.erasures.run(request.id)
        wait_for_jobs(client)


def run_seen(**fields: Any) -> dict[str, Any]:
    """A new run, as `snapshot` reads it."""
    new = {"summary": {}, "tags": [], "status": "running", "state": "active", "history": [], "rows": {}, "files": {}}
    return new | fields


def assert_one_of(seen: Model, workload: Workload) -> None:
    """The whole of ``seen`` is what was there before the last write, or after it; the message shows what is neither."""
    before, after = workload.before, workload.after
    if seen in (before, after):
        return
    for kind, objects in seen.items():
        for name in {**objects, **after[kind]}:
            assert objects.get(name) in (before[kind].get(name), after[kind].get(name)), (kind, name)
    assert seen == after, "each object is from before or after the last write, but not all from the same side"


def snapshot(client: Labkeep, project: str = PROJECT) -> Model:
    """Everything that a client can see of a project, in the form of the model."""
    model = empty()
    if not _is_made(client, project):
        return model
    for run in client.runs.list(project, state="any"):
        model["runs"][run.name] = _run_of(client, run)
    documents = {document.id: document.name for document in client.documents.list(project)}
    for id, name in documents.items():
        model["documents"][name] = [version.body for version in client.documents.versions(id)][::-1]
    for artifact in client.artifacts.list(project):
        for version in client.artifacts.versions(artifact.id):
            files = _files_of(client, version.id)
            aliases = sorted(version.aliases, key=lambda alias: alias != "latest")
            model["artifacts"][f"{artifact.name}:{version.name}"] = {"files": files, "aliases": aliases}
    for one in client.environments.list(project):
        model["environments"][one.name] = [documents.get(one.document_id or ""), one.number]
    return model


def _is_made(client: Labkeep, project: str) -> bool:
    return any(client.projects.list(name=project))


def _run_of(client: Labkeep, run: Any) -> dict[str, Any]:
    rows = client.rows.read(run.id, include="trashed")
    return {
        "config": run.config,
        "summary": run.summary,
        "tags": list(run.tags),
        "status": str(run.status),
        "state": str(run.state),
        "history": [dict(row) for row in client.runs.history(run.id, include="trashed")],
        "rows": {row.id: row.data for row in rows},
        "files": _files_of(client, run.id),
    }


def _files_of(client: Labkeep, id: str) -> dict[str, bytes]:
    files = client.files.list(id, include="trashed")
    return {file.path: client.files.read(id, file.path, include="trashed") for file in files}
