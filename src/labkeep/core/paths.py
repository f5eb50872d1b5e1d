"""Nested JSON as flat paths: how config, summary and metadata become things that can be filtered and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MAX_DEPTH = 32
"""Levels below which nothing is looked at."""


def leaves_of(value: Mapping[str, Any], prefix: str = "", depth: int = MAX_DEPTH) -> Iterator[tuple[str, Any]]:
    """Each leaf with its dotted path, in order. An empty object, and whatever lies too deep, is a leaf itself."""
    for key, child in value.items():
        path = f"{prefix}.{key}" if prefix else key
        if isinstance(child, Mapping) and child and depth > 1:
            yield from leaves_of(child, path, depth - 1)
        else:
            yield path, child
