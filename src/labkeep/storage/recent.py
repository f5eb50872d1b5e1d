"""What was decoded just now, in memory: who reads a long history page by page reads from the same few pieces.

Nothing here is needed: any of it can be made again. It is bounded in bytes, gone after a minute, and dropped when
something of its organization is purged. Keys name content that never changes (by digest), never only where it lies.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock, Timer
from time import monotonic
from typing import Any, NamedTuple, TypeVar, cast

T = TypeVar("T")

KEPT_S = 60.0
"""How long something is kept."""

KEPT_BYTES = 96 * 2**20
"""How much of it."""


class _Kept(NamedTuple):
    value: Any
    bytes: int
    until: float


class Recent:
    """Values by organization and key. Any thread may use it; two that miss at once both make the value."""

    def __init__(self, most_bytes: int = KEPT_BYTES, kept_s: float = KEPT_S) -> None:
        self._most, self._kept_s = most_bytes, kept_s
        self._lock = Lock()
        self._values: OrderedDict[tuple[str, Hashable], _Kept] = OrderedDict()
        self._bytes = 0
        self._timer: Timer | None = None
        """Runs while anything is kept."""

    def get(self, organization_id: str, key: Hashable, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """The value under ``key``, made when there is none. ``size`` is what it counts, in bytes."""
        place = (organization_id, key)
        with self._lock:
            found = self._values.get(place)
            if found is not None:
                self._values.move_to_end(place)
                return cast("T", found.value)
        value = make()
        self._keep(place, value, size(value))
        return value

    def _keep(self, place: tuple[str, Hashable], value: Any, size: int) -> None:
        if size > self._most // 2:
            return
        with self._lock:
            self._remove(place)
            self._values[place] = _Kept(value, size, monotonic() + self._kept_s)
            self._bytes += size
            while self._bytes > self._most:
                self._remove(next(iter(self._values)))
            if self._timer is None:
                self._look_again_in(self._kept_s)

    def _look_again_in(self, wait_s: float) -> None:
        self._timer = Timer(wait_s, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def _expire(self) -> None:
        with self._lock:
            now = monotonic()
            for place in [place for place, kept in self._values.items() if kept.until <= now]:
                self._remove(place)
            self._timer = None
            if self._values:
                self._look_again_in(min(kept.until for kept in self._values.values()) - now)

    def _remove(self, place: tuple[str, Hashable]) -> None:
        found = self._values.pop(place, None)
        if found is not None:
            self._bytes -= found.bytes

    def keys(self, organization_id: str) -> list[Hashable]:
        """What is kept of an organization."""
        with self._lock:
            return [key for space, key in self._values if space == organization_id]

    def forget(self, organization_id: str) -> None:
        """Drop all that is kept of an organization: something of it is purged."""
        with self._lock:
            for place in [place for place in self._values if place[0] == organization_id]:
                self._remove(place)


RECENT = Recent()
"""Of this process."""
