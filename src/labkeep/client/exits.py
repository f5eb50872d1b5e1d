"""What is to be done when the process ends: first finish runs, then close what they were sent to."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable

_first: list[Callable[[], None]] = []
_last: list[Callable[[], None]] = []
_lock = threading.Lock()
_hooked_in: int | None = None


def at_exit(first: Callable[[], None] | None = None, last: Callable[[], None] | None = None) -> None:
    """Call ``first`` before anything that was registered as ``last``. The same function is called once."""
    global _hooked_in
    with _lock:
        if first is not None and first not in _first:
            _first.append(first)
        if last is not None and last not in _last:
            _last.append(last)
        if _hooked_in is None:
            _hooked_in = os.getpid()
            # Plain atexit comes too late: by then executors take no work, and a folder in this process needs them.
            # The executors' module must have registered its own end by now, so that ours, the later one, comes before.
            import concurrent.futures.thread  # noqa: F401

            getattr(threading, "_register_atexit", atexit.register)(_run)


def _run() -> None:
    if os.getpid() != _hooked_in:  # a forked child has neither runs nor folders
        return
    for step in [*_first, *_last]:
        step()
