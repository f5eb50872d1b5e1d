"""The thread that turns what a run logged into ops, twice a second."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from labkeep.client.outbox import Outbox
from labkeep.client.rows import BATCH_ROWS, Stream
from labkeep.client.spool import Change, Rows

log = logging.getLogger("labkeep")

TICK_S = 0.5
SUMMARY_S = 10.0
"""How often the summary of a run that goes on is sent."""

QUEUED_ROWS = 4 * BATCH_ROWS
"""So many rows wake the thread before its time."""


class Pump:
    """Empties streams into an outbox. ``changes(summary)`` says which fields of the run were set since it last said."""

    def __init__(self, outbox: Outbox, changes: Callable[[bool], dict[str, Any]]) -> None:
        self._outbox = outbox
        self._changes = changes
        self._streams: dict[str, Stream] = {}
        self._taking = threading.Lock()
        self._awake = threading.Event()
        self._closing = False
        self._next_summary = time.monotonic() + SUMMARY_S
        self._thread = threading.Thread(target=self._run, name="labkeep-pump", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._outbox.start()
        self._thread.start()

    def stream(self, stream: Stream) -> Stream:
        """Empty this stream too."""
        self._streams[stream.name] = stream
        return stream

    def wake(self) -> None:
        """There is a lot to do."""
        self._awake.set()

    def flush(self, timeout_s: float) -> bool:
        """Send what was logged up to now. True once the server has acknowledged it; False when it is kept on disk."""
        with self._taking:
            last = None
            for batch in self._taken():
                if last is not None:
                    self._outbox.put(last)
                last = batch
            if last is None:
                return self._outbox.wait_until_empty(timeout_s)
            return self._outbox.send(last, timeout_s)

    def columns(self, stream: Stream, *data: Any) -> None:
        """Put whole columns behind what was logged before them."""
        with self._taking:
            self._take()
            self._outbox.put(stream.columns(*data))
        self._outbox.wait_for_room(60.0)

    def close(self) -> None:
        """Take a last time."""
        self._closing = True
        self._awake.set()
        if self._thread.ident is not None:
            self._thread.join()
        with self._taking:
            self._take()
        self._put_changes(summary=False)

    def _run(self) -> None:
        while not self._closing:
            self._awake.wait(TICK_S)
            self._awake.clear()
            with self._taking:
                self._take()
            due = time.monotonic() >= self._next_summary
            if due:
                self._next_summary = time.monotonic() + SUMMARY_S
            self._put_changes(summary=due)

    def _take(self) -> None:
        for batch in self._taken():
            self._outbox.put(batch)

    def _taken(self) -> Iterator[Rows]:
        try:
            for stream in self._streams.values():
                while batches := stream.take():
                    yield from batches
        except Exception:  # a mistake of ours may cost a batch, but never the training that logs
            log.exception("labkeep: a batch could not be made")

    def _put_changes(self, *, summary: bool) -> None:
        fields = self._changes(summary)
        if fields:
            self._outbox.put(Change(fields))
