"""Columns side by side on a terminal: cut where they must be, but never an id."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import click
from rich.cells import cell_len, set_cell_size

GAP = "  "
LEAST = 8
"""Cells that a column keeps however narrow the terminal is."""


def fits(titles: Sequence[str], lines: Sequence[Sequence[str]], whole: Sequence[bool], width: int) -> list[int]:
    """How wide each column is: as wide as its content, and where that is too much the widest ones give in first."""
    wide = [max(map(cell_len, column)) for column in zip(titles, *lines, strict=True)]
    while sum(wide) + len(GAP) * (len(wide) - 1) > width:
        elastic = [number for number, cells in enumerate(wide) if not whole[number] and cells > LEAST]
        if not elastic:
            break  # the terminal wraps the line: better than an id that nobody can copy
        wide[max(elastic, key=wide.__getitem__)] -= 1
    return wide


def aligned(
    titles: Sequence[str], lines: Sequence[Sequence[str]], *, whole: Sequence[bool], right: Sequence[bool], header: bool
) -> Iterator[str]:
    """The lines of a table. ``right`` says which columns hold numbers."""
    widths = fits(titles, lines, whole, shutil.get_terminal_size().columns)
    if header:
        yield _bold(_line(titles, widths, right))
    for cells in lines:
        yield _line(cells, widths, right)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    placed = [_placed(text, width, numeric) for text, width, numeric in zip(cells, widths, right, strict=True)]
    return GAP.join(placed).rstrip()


def _placed(text: str, width: int, numeric: bool) -> str:
    room = width - cell_len(text)
    if room < 0:
        return set_cell_size(text, width - 1) + "…"
    return " " * room + text if numeric else text + " " * room


def _bold(text: str) -> str:
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain else click.style(text, bold=True)


def is_number(value: Any) -> bool:
    """Whether a value stands at the right side of its column. Nothing does, too."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
