"""The two lines from a run to its server: one for rows and edits, one for files, so that neither waits for the other."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkeep.client.delivery import Delivery
from labkeep.client.outbox import KEEPING, SENDING, Outbox, Ticket
from labkeep.client.pump import Pump
from labkeep.client.rows import Stream
from labkeep.client.spool import Begin, End, Entry, PutArtifact, PutFile, Spool
from labkeep.client.staging import Staging
from labkeep.client.uploads import media_type_of

if TYPE_CHECKING:
    from labkeep.client._sync.client import Labkeep
    from labkeep.client.artifact import Artifact

log = logging.getLogger("labkeep")

COLUMN_ROWS = 25_000
"""Rows of one batch when whole columns are logged."""


class Lanes:
    """Delivery for one run. ``client`` is None when there is no server (offline)."""

    def __init__(self, client: Labkeep | None, begin: Begin, folder: Path, *, mode: str = SENDING) -> None:
        run_id = begin.run["id"]
        self.client = client
        self.kept = folder
        self._staging = Staging(folder / "files" / run_id)
        self._delivery = None if client is None else Delivery(client, begin, self._staging)
        mode = KEEPING if self._delivery is None else mode
        deliver: Any = self._delivery
        beat = None if self._delivery is None else self._delivery.beat
        self._rows = Outbox("rows", deliver, Spool(folder / f"{run_id}.spool", begin), beat=beat, mode=mode)
        self._files = Outbox("files", deliver, Spool(folder / f"{run_id}.files.spool", begin), mode=mode)

    @property
    def stop(self) -> bool:
        """Whether the server asked for the run to end."""
        return self._delivery is not None and self._delivery.stop

    def start(self, changes: Callable[[bool], dict[str, Any]], streams: Iterable[Stream]) -> None:
        """Begin to send what is put into ``streams``, and what ``changes`` says (see `Pump`)."""
        self._pump = Pump(self._rows, changes)
        for stream in streams:
            self._pump.stream(stream)
        self._pump.start()

    def wake(self) -> None:
        """There is a lot to send."""
        self._pump.wake()

    def flush(self, timeout_s: float) -> bool:
        """Whether the server has acknowledged all rows, once it has."""
        return self._pump.flush(timeout_s)

    def columns(
        self,
        stream: Stream,
        steps: Sequence[int],
        columns: Mapping[str, Sequence[Any]],
        timestamps: Sequence[float] | None,
    ) -> None:
        """Whole columns, in batches."""
        for start in range(0, len(steps), COLUMN_ROWS):
            part = slice(start, start + COLUMN_ROWS)
            times = None if timestamps is None else timestamps[part]
            self._pump.columns(stream, steps[part], {key: values[part] for key, values in columns.items()}, times)

    # --- files

    def save(self, source: Path, path: str) -> bool:
        """Copy a file of the run and queue its upload. False, with a warning, when it cannot be read."""
        entry = self._stage(path, source)
        if entry is not None:
            self._files.start()
            self._files.put(PutFile(entry))
        return entry is not None

    def log_artifact(self, artifact: Artifact, aliases: list[str]) -> None:
        """Copy the artifact's files and queue its upload."""
        ticket = Ticket()
        artifact.logged(self.client, ticket)
        staged = [self._stage(path, source) for path, source in artifact.sources.items()]
        if None in staged:
            log.warning("labkeep: artifact %s is not logged: a part of it would be missing", artifact.name)
            for entry in filter(None, staged):
                self._staging.drop(entry.digest)
            ticket.settle(None, acknowledged=False)
            return
        references = [Entry(path, uri, 0, reference=True) for path, uri in artifact.references.items()]
        op = PutArtifact(
            name=artifact.name,
            type=artifact.type,
            entries=[*(entry for entry in staged if entry is not None), *references],
            description=artifact.description,
            metadata=artifact.plain_metadata,
            aliases=aliases,
        )
        self._files.start()
        self._files.put(op, ticket)

    def _stage(self, path: str, source: Path) -> Entry | None:
        try:
            digest, size = self._staging.add(source)
        except OSError as error:
            log.warning("labkeep: %s cannot be copied: %s", source, error)
            return None
        return Entry(path, digest, size, media_type_of(path))

    # --- the end

    def close(self, end: Callable[[], End], timeout_s: float) -> bool:
        """Send what is left and then ``end``, waiting at most so long. True when the server has all of it."""
        deadline = time.monotonic() + timeout_s
        self._pump.close()
        sent = False
        try:
            sent = self._files.close(timeout_s)
        finally:  # also when somebody loses patience with an upload
            self._rows.put(end())
            sent = self._rows.close(max(1.0, deadline - time.monotonic())) and sent
        self._staging.close()
        if self.client is not None and self.client.base_url.startswith("file:"):
            self.client.close()  # other processes may want to open the folder
        return sent
