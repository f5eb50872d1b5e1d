"""What a process prints, line by line, also into the stream ``console`` of its run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TextIO


class Tee:
    """Stands before ``sys.stdout`` or ``sys.stderr`` and hands every complete line to ``take`` as well."""

    def __init__(self, below: TextIO, take: Callable[[str], None]) -> None:
        self._below = below
        self._take = take
        self._open = ""

    def write(self, text: str) -> int:
        """Print, and note the lines that this completes."""
        written = self._below.write(text)
        *lines, self._open = (self._open + text).split("\n")
        for line in lines:
            self._take(line.rpartition("\r")[2] or line.rstrip("\r").rpartition("\r")[2])
        if len(self._open) > _LONGEST_LINE:
            self._open = self._open.rpartition("\r")[2][-_LONGEST_LINE:]
        return written

    def rest(self) -> None:
        """Note a last line that nothing ended."""
        if self._open:
            self._take(self._open)
            self._open = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)


_LONGEST_LINE = 100_000


class Capture:
    """Both streams of the process, while a run asks for them."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._tees = {name: Tee(getattr(sys, name), take) for name in ("stdout", "stderr")}
        for name, tee in self._tees.items():
            setattr(sys, name, tee)

    def close(self) -> None:
        """Give the streams back, unless somebody else has replaced them since."""
        for name, tee in self._tees.items():
            tee.rest()
            if getattr(sys, name) is tee:
                setattr(sys, name, tee._below)
