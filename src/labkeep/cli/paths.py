"""``--columns``: values of a run by path, as the query language writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from labkeep.cli.output import Column

SPACES = ("summary", "config", "metadata")
"""Namespaces of a run's own values. A path without one is looked up in each of them, in this order."""


def columns_of(texts: Sequence[str]) -> list[Column]:
    """A column for each path of ``summary.acc,config.lr``."""
    paths = [path.strip() for text in texts for path in text.split(",") if path.strip()]
    return [Column(path.rpartition(".")[2].upper(), partial(value_at, path)) for path in paths]


def value_at(path: str, run: Any) -> Any:
    """What a run has at ``path``; None where it has nothing."""
    space, dot, rest = path.partition(".")
    if dot and space in SPACES:
        return _within(getattr(run, space), rest)
    if path in run.__struct_fields__:
        return getattr(run, path)
    return next((found for name in SPACES if (found := _within(getattr(run, name), path)) is not None), None)


def _within(mapping: Mapping[str, Any], path: str) -> Any:
    """A key may have dots itself, so the longest one that is there wins."""
    if path in mapping:
        return mapping[path]
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        inner = mapping.get(".".join(parts[:count]))
        if isinstance(inner, Mapping):
            return _within(inner, ".".join(parts[count:]))
    return None
