"""A run as the training code holds it. Nothing that is called while training raises, or waits for the network."""

from __future__ import annotations

import glob
import logging
import os
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from labkeep.client import repairs
from labkeep.client.artifact import Artifact
from labkeep.client.console import Capture
from labkeep.client.lanes import Lanes
from labkeep.client.mappings import Config, Summary
from labkeep.client.pump import QUEUED_ROWS
from labkeep.client.rows import Stream
from labkeep.client.spool import End
from labkeep.core.errors import Invalid, Refused

log = logging.getLogger("labkeep")

FLUSH_TIMEOUT_S = 30.0
FINISH_TIMEOUT_S = 600.0

live: set[Run] = set()
"""Runs of this process that are not finished."""


class Start:
    """What a run begins with: identity, what is known of it, and the lanes to its server (None: disabled)."""

    def __init__(self, *, id: str, project: str, url: str, lanes: Lanes | None, quiet: bool = False) -> None:
        self.id = id
        self.project = project
        self.url = url
        self.lanes = lanes
        self.quiet = quiet
        self.name = f"run-{id[-6:]}"
        self.handle: str | None = None
        self.notes = ""
        self.group = ""
        self.job_type = ""
        self.tags: tuple[str, ...] = ()
        self.config: Mapping[str, Any] = {}
        self.summary: Mapping[str, Any] = {}
        self.streams: Mapping[str, Stream] = {}


class Run:
    """One execution that is being logged. Made by `labkeep.init`; ends with `finish`, or with its ``with`` block.

    ``id`` is the immutable id, ``url`` where to look at it, ``config`` and ``summary`` are mappings, ``stopped`` says
    that somebody asked for the run to end.
    """

    def __init__(self, start: Start, *, console: bool = False) -> None:
        self.id = start.id
        self.project = start.project
        self.url = start.url
        self.handle = start.handle
        self.group = start.group
        self.job_type = start.job_type
        self.config = Config(start.config)
        self.summary = Summary(start.summary)
        self.status = "running"
        self.exit_code: int | None = None
        self._name, self._notes, self._tags = start.name, start.notes, tuple(start.tags)
        self._edits: dict[str, Any] = {}
        self._quiet = start.quiet
        self._history = start.streams.get("history") or Stream("history")
        self._console = start.streams.get("console") or Stream("console")
        self._lock = threading.RLock()  # a signal handler may log while the training does
        self._lanes = start.lanes
        self._open = self._lanes is not None
        self._told_of_stop = False
        self._capture: Capture | None = None
        if self._lanes is not None:
            live.add(self)
            self._lanes.start(self._changes, [self._history, self._console])
            self._capture = Capture(self._print) if console else None

    # --- what it is called

    @property
    def name(self) -> str:
        """The display name. Set it to rename the run."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = repairs.unicode(str(name))
        self._edits["name"] = self._name

    @property
    def notes(self) -> str:
        """Free text. Set it to change it."""
        return self._notes

    @notes.setter
    def notes(self, notes: str | None) -> None:
        self._notes = repairs.unicode(str(notes or ""))
        self._edits["notes"] = self._notes

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags. Set them to change them: ``run.tags += ("best",)``."""
        return self._tags

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        self._tags = tuple(dict.fromkeys(repairs.unicode(str(tag)) for tag in tags))
        self._edits["tags"] = self._tags

    @property
    def step(self) -> int:
        """The step that the next ``log`` without one gets."""
        return self._history.step

    @property
    def stopped(self) -> bool:
        """Whether somebody asked for this run to end; a training loop may look at it and break."""
        return self._lanes is not None and self._lanes.stop

    # --- logging

    def log(self, data: Mapping[str, Any], step: int | None = None, *, durable: bool = False) -> None:
        """One row of metrics: numbers, texts, lists or nested dicts of them, arrays of any library with ``tolist``.

        Steps count up by themselves. With a ``step``: the same as the last adds to that row, a lower one is kept as it
        is, with a warning. The row is queued, which takes microseconds, and sent within half a second; ``durable`` waits
        until the server has it on disk (or, when the server is away, until the local disk has).
        """
        if not self._open:
            self._say_closed()
            return
        try:
            row = repairs.plain_values(data)
            step = None if step is None else int(step)
        except (AttributeError, TypeError, ValueError) as error:
            repairs.warn_once("log", "labkeep: log takes a dict and a whole number, so this call is ignored: %s", error)
            return
        with self._lock:
            self._history.add(row, step)
            self.summary.note(row)
        if durable:
            self.flush()
        elif len(self._history.pending) >= QUEUED_ROWS:
            self._lanes.wake()  # type: ignore[union-attr]  # open runs have lanes

    def log_columns(
        self, steps: Sequence[int], columns: Mapping[str, Sequence[Any]], *, timestamps: Sequence[float] | None = None
    ) -> None:
        """Whole columns, each as long as ``steps``: the fast way for many points. Waits when it is ahead of the network.

        Raises Invalid when a column has another length, or holds what cannot be stored.
        """
        if not self._open:
            self._say_closed()
            return
        assert self._lanes is not None
        unequal = [key for key, values in columns.items() if len(values) != len(steps)]
        if unequal:
            raise Invalid(f"column {unequal[0]!r} has not as many values as there are steps ({len(steps)})")
        self._lanes.columns(self._history, steps, columns, timestamps)
        if len(steps):
            self.summary.note({key: repairs.plain_values({key: values[-1]})[key] for key, values in columns.items()})

    def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Wait until all that was logged is on the server's disk: True. False when it is kept on the local disk instead."""
        return self._open and self._lanes is not None and self._lanes.flush(timeout_s)

    def _print(self, line: str) -> None:
        if len(self._console.pending) < QUEUED_ROWS:
            self._console.add({"line": line}, None)

    def _say_closed(self) -> None:
        if self._lanes is not None:
            why = "is finished" if self.status != "running" else "belongs to the process that this one was forked from"
            repairs.warn_once(f"closed:{self.id}", "labkeep: run %s %s; nothing more is logged to it", self.name, why)

    # --- files and artifacts

    def log_artifact(
        self,
        artifact: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] | None = None,
    ) -> Artifact:
        """A new version of an artifact: an `Artifact`, or the path of a file or folder.

        Its files are copied now, so that they may change afterwards, and uploaded in the background; bytes that the
        server has already are not sent again. ``artifact.wait()`` waits for it. The aliases are ``latest`` and those given.
        """
        made = artifact if isinstance(artifact, Artifact) else _artifact_of(Path(artifact), name, type)
        if self._open and self._lanes is not None:
            self._lanes.log_artifact(made, list(aliases or ()))
        return made

    def use_artifact(self, name: str, type: str | None = None) -> Artifact:
        """The artifact ``name:alias`` of this project (``project/name:alias`` of another), noted as an input of this run.

        Raises NotFound when there is none, and Refused for a run without a server.
        """
        if not self._open or self._lanes is None or self._lanes.client is None:
            raise Refused(f"run {self.name} has no server to ask for artifact {name}")
        project, _, rest = name.rpartition("/")
        version = self._lanes.client.artifacts.resolve(project or self.project, rest, type=type)
        self._lanes.client.links.create(self.id, version.id, "input", on_delete="keep")
        return Artifact.found(self._lanes.client, rest.partition(":")[0], version)

    def save(self, path: str | os.PathLike[str], base_path: str | os.PathLike[str] | None = None) -> list[str]:
        """Keep a file, or all that match a pattern, with the run; returns their paths there.

        The path there is the one below ``base_path`` (the working directory; just the name for files outside of it).
        """
        if not self._open or self._lanes is None:
            return []
        base = Path(base_path or ".").resolve()
        matching = glob.glob(os.fspath(path), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
        found = [Path(file).resolve() for file in sorted(matching)]
        if not found:
            log.warning("labkeep: there is no file %s to save", path)
        saved = []
        for file in found:
            if file.is_file():
                below = file.relative_to(base).as_posix() if file.is_relative_to(base) else file.name
                saved.extend([below] if self._lanes.save(file, below) else [])
        return saved

    # --- the end

    def finish(self, exit_code: int | None = None, *, timeout_s: float = FINISH_TIMEOUT_S) -> None:
        """End the run: ``finished``, or ``failed`` when ``exit_code`` is not 0. Does nothing the second time.

        Waits until everything is sent, at most ``timeout_s``; what is not sent then stays on disk for `labkeep sync`.
        """
        if not self._open or self._lanes is None:
            self.status = "finished" if self._lanes is None else self.status
            return
        self._open = False
        live.discard(self)
        if self._capture is not None:
            self._capture.close()
        code = self.exit_code if exit_code is None else int(exit_code)
        self.status, self.exit_code = self._final_status(code), code
        at = datetime.now(UTC).isoformat()
        clean = self._lanes.close(
            lambda: End(status=self.status, at=at, exit_code=code, summary=self._left()), timeout_s
        )
        if not self._quiet:
            where = self.url if clean else f"not all sent; kept in {self._lanes.kept}, and `labkeep sync` sends it"
            sys.stderr.write(f"labkeep: run {self.name} {self.status}: {where}\n")

    def _final_status(self, code: int | None) -> str:
        if code == INTERRUPTED or (code is None and self.stopped):
            return "stopped"
        return "failed" if code else "finished"

    def _left(self) -> dict[str, Any]:
        return self.summary.changes()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(exit_code_of(error) if error is not None else None)

    def _changes(self, summary: bool) -> dict[str, Any]:
        """What was set since it was last asked; also notices that somebody asked for the run to stop."""
        if self.stopped and not self._told_of_stop:
            self._told_of_stop = True
            log.warning("labkeep: somebody asked for run %s to stop: run.stopped is set", self.name)
        fields: dict[str, Any] = {}
        while self._edits:
            key, value = self._edits.popitem()
            fields.setdefault(key, value)
        spaces = {"config": self.config.changes(), "summary": self.summary.changes() if summary else {}}
        return {**fields, **{space: values for space, values in spaces.items() if values}}

    def __repr__(self) -> str:
        return f"<Run {self.name} ({self.id}) in {self.project}, {self.status}>"


INTERRUPTED = 130
"""The exit code of a process that was ended by Ctrl-C."""


def exit_code_of(error: BaseException) -> int:
    """The exit code of a process that ends with ``error``."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 1


def _artifact_of(path: Path, name: str | None, type: str | None) -> Artifact:
    artifact = Artifact(name or path.name, type or "artifact")
    if path.is_dir():
        artifact.add_dir(path)
    else:
        artifact.add_file(path)
    return artifact


def _forget_after_fork() -> None:
    """In a forked child: the runs go on in the parent, whose threads and connections did not come along."""
    for run in list(live):
        run._open = False
    live.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
