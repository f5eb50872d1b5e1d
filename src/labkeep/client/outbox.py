"""A first-in first-out line of ops to a server, in memory while it answers and in a file while it does not.

Nothing here raises into the caller: what goes wrong is logged once, and what could not be sent stays in the spool.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from labkeep.client.repairs import repaired
from labkeep.client.spool import Op, Spool, size_of
from labkeep.core.errors import Corrupt, Invalid, LabkeepError, TooLarge, Unsupported

log = logging.getLogger("labkeep")

MEMORY_BYTES = 64 << 20
"""More than this waits on disk."""

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
BEAT_S = 30.0

SENDING, SPOOLING, KEEPING = "sending", "spooling", "keeping"


class Ticket:
    """What became of one op: ``acknowledged`` by the server with an ``answer``, or kept on disk."""

    def __init__(self) -> None:
        self._settled = threading.Event()
        self.acknowledged = False
        self.answer: Any = None

    def settle(self, answer: Any, *, acknowledged: bool) -> None:
        """Say what became of it."""
        self.answer, self.acknowledged = answer, acknowledged
        self._settled.set()

    def wait(self, timeout_s: float | None) -> bool:
        """Whether the server has acknowledged it, once that is known."""
        return self._settled.wait(timeout_s) and self.acknowledged


class Outbox:
    """One lane: a queue, its spool, and the thread that empties both, in order.

    ``deliver`` sends one op and raises `LabkeepError`; ``beat`` is called every half minute while the server answers.
    It begins in any ``mode``: sending, spooling when the server is away already, keeping when there is none.
    """

    def __init__(
        self,
        name: str,
        deliver: Callable[[Op], Any],
        spool: Spool,
        *,
        beat: Callable[[], None] | None = None,
        mode: str = SENDING,
    ) -> None:
        self._name = name
        self._deliver = deliver
        self._spool = spool
        self._beat = beat
        self._mode = mode
        self._queue: deque[tuple[Op, Ticket | None]] = deque()
        self._bytes = 0
        self._sent_up_to = 0
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._closing = False
        self._failures = 0
        self._retry_at = 0.0
        self._next_beat = time.monotonic() + BEAT_S
        self._thread: threading.Thread | None = None
        if mode == SPOOLING:
            self._back_off()

    @property
    def mode(self) -> str:
        """``sending``, ``spooling`` (the server is away), or ``keeping`` (it refused, or there is none)."""
        return self._mode

    def start(self) -> None:
        """Begin to send."""
        if self._mode != SENDING:
            self._try(self._spool.open)
        if self._mode != KEEPING and self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"labkeep-{self._name}", daemon=True)
            self._thread.start()

    # --- putting in

    def put(self, op: Op, ticket: Ticket | None = None) -> None:
        """Queue an op. Takes no longer than a write to the local disk."""
        with self._changed:
            if self._mode == SENDING:
                self._queue.append((op, ticket))
                self._bytes += size_of(op)
                if self._bytes > MEMORY_BYTES:
                    self._to_disk(SPOOLING)
            else:
                self._keep(op, ticket)
            self._changed.notify_all()

    def send(self, op: Op, timeout_s: float) -> bool:
        """Send an op from this very thread when its turn is now, else queue it and wait. True when acknowledged."""
        if self._sending.acquire(blocking=False):
            try:
                with self._changed:
                    first = self._mode == SENDING and not self._queue
                    if first:
                        self._queue.append((op, ticket := Ticket()))
                        self._bytes += size_of(op)
                if first:
                    self._send_head()
                    return ticket.wait(0)
            finally:
                self._sending.release()
        ticket = Ticket()
        self.put(op, ticket)
        return ticket.wait(timeout_s)

    def wait_for_room(self, timeout_s: float) -> None:
        """Wait while a lot is queued, so that a caller who is faster than the network does not fill the disk."""
        with self._changed:
            self._changed.wait_for(lambda: self._bytes < MEMORY_BYTES // 4 or self._mode != SENDING, timeout_s)

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Whether the server has acknowledged everything, once it has."""
        with self._changed:
            self._changed.wait_for(lambda: not self._queue or self._mode != SENDING, timeout_s)
            return self._mode == SENDING and not self._queue

    def _keep(self, op: Op, ticket: Ticket | None) -> None:
        self._try(lambda: self._spool.append(op))
        if ticket is not None:
            self._spool.sync()
            ticket.settle(None, acknowledged=False)

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except (OSError, LabkeepError) as error:
            log.warning("labkeep: cannot keep what was logged in %s (%s); it is lost", self._spool.path, error)

    def _to_disk(self, mode: str) -> None:
        """Put the queue into the spool, in order. The op that is under way goes too: sent twice it does no harm."""
        self._mode = mode
        for op, ticket in self._queue:
            self._keep(op, ticket)
        self._queue.clear()
        self._bytes = 0

    # --- sending

    def _run(self) -> None:
        while self._wait():
            with self._sending:
                if self._mode == SENDING:
                    self._send_head()
                elif self._mode == SPOOLING:
                    self._replay()
            self._keep_alive()

    def _wait(self) -> bool:
        """Wait for something to do; False when the lane is closed and there is nothing that can be done."""
        with self._changed:
            while not self._is_due():
                if self._closing and (self._mode == KEEPING or not self._queue):
                    return False
                self._changed.wait(self._pause())
                if time.monotonic() >= self._next_beat:
                    return True
            return True

    def _is_due(self) -> bool:
        if self._mode == SPOOLING:
            return time.monotonic() >= self._retry_at
        return self._mode == SENDING and bool(self._queue)

    def _pause(self) -> float:
        now = time.monotonic()
        due = self._retry_at if self._mode == SPOOLING else self._next_beat
        return max(0.0, min(due, self._next_beat) - now)

    def _send_head(self) -> None:
        with self._changed:
            if self._mode != SENDING or not self._queue:
                return
            op, ticket = self._queue[0]
        try:
            answer = self._deliver(op)
        except LabkeepError as error:
            self._head_failed(op, error)
            return
        with self._changed:
            # An overflow may have moved it to the spool meanwhile; then it is sent again from there.
            if self._queue and self._queue[0][0] is op:
                self._queue.popleft()
                self._bytes -= size_of(op)
            if ticket is not None:
                ticket.settle(answer, acknowledged=True)
            self._failures = 0
            self._changed.notify_all()

    def _head_failed(self, op: Op, error: LabkeepError) -> None:
        with self._changed:
            if is_about_content(error):
                self._replace_head(op, repaired(op, error))
            elif is_passing(error):
                self._to_disk(SPOOLING)
                self._went_away(error)
            else:
                self._to_disk(KEEPING)
                self._was_refused(error)
            self._changed.notify_all()

    def _replace_head(self, op: Op, parts: list[Op]) -> None:
        if not self._queue or self._queue[0][0] is not op:
            return  # it overflowed to the spool, and is repaired when it is sent from there
        ticket = self._queue.popleft()[1]
        self._bytes += sum(map(size_of, parts)) - size_of(op)
        self._queue.extendleft((part, ticket if part is parts[-1] else None) for part in reversed(parts))
        if ticket is not None and not parts:
            ticket.settle(None, acknowledged=False)

    def _replay(self) -> None:
        """Send what is in the spool, then go on from memory."""
        try:
            for position, op in self._spool.read(self._sent_up_to):
                self._deliver_repaired(op)
                self._sent_up_to = position
        except LabkeepError as error:
            with self._changed:
                if is_passing(error):
                    self._went_away(error)
                else:
                    self._mode = KEEPING
                    self._was_refused(error)
            return
        with self._changed:
            if self._sent_up_to == self._spool.end:
                self._came_back()

    def _deliver_repaired(self, op: Op) -> None:
        try:
            self._deliver(op)
        except LabkeepError as error:
            if not is_about_content(error):
                raise
            for part in repaired(op, error):
                self._deliver_repaired(part)

    def _came_back(self) -> None:
        self._spool.remove()
        self._sent_up_to = self._failures = 0
        self._mode = SENDING
        log.warning("labkeep: the server answers again; everything that was kept has been sent")

    def _went_away(self, error: LabkeepError) -> None:
        if self._failures == 0:
            log.warning(
                "labkeep: %s What is logged is kept in %s until it answers.", _sentence(error), self._spool.path.parent
            )
        self._back_off()

    def _back_off(self) -> None:
        self._retry_at = time.monotonic() + min(FIRST_RETRY_S * 2.0**self._failures, LONGEST_RETRY_S)
        self._failures += 1

    def _was_refused(self, error: LabkeepError) -> None:
        log.warning(
            "labkeep: %s Nothing more is sent; what is logged is kept in %s, and `labkeep sync` sends it.",
            _sentence(error),
            self._spool.path.parent,
        )

    def _keep_alive(self) -> None:
        if time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + BEAT_S
        if self._beat is None or self._mode != SENDING:
            return
        try:
            self._beat()
        except LabkeepError as error:
            if not is_passing(error):
                with self._changed:
                    self._to_disk(KEEPING)
                    self._was_refused(error)

    # --- ending

    def close(self, timeout_s: float) -> bool:
        """Send what is left, waiting at most so long, and keep the rest in the spool. True when all was acknowledged."""
        with self._changed:
            self._closing = True
            self._retry_at = 0.0  # one last try
            self._changed.notify_all()
        try:
            if self._thread is not None:
                self._thread.join(timeout_s)
        finally:  # Ctrl-C ends the waiting, and loses nothing
            with self._changed:
                if self._queue:
                    self._to_disk(SPOOLING)
                clean = self._spool.end == 0
                self._mode = KEEPING
                self._spool.close()
        return clean


def is_passing(error: LabkeepError) -> bool:
    """Whether the same op may be accepted later."""
    return error.retry or (error.status >= 500 and not isinstance(error, Corrupt | Unsupported))


def is_about_content(error: LabkeepError) -> bool:
    """Whether it is this one op that is not accepted, and others may be."""
    return isinstance(error, Invalid | TooLarge | Unsupported)


def _sentence(error: LabkeepError) -> str:
    return error.message if error.message.endswith(".") else f"{error.message}."
