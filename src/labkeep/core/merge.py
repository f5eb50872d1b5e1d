"""Deep merge of JSON objects: edits of metadata and config (RFC 7396), and merges of rows.

Nothing is changed in place; what is not touched is shared with the objects that came in.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from labkeep.core.entities import Json

Path = tuple[str, ...]


def merge(
    current: Json,
    patch: Json,
    *,
    keep: Collection[str] = (),
    union: Collection[str] = (),
    paths: Collection[Path] = (),
    remove_none: bool = True,
) -> Json:
    """``current`` with ``patch`` on top: objects merge, everything else is replaced.

    ``keep``: top-level keys whose current value stays. ``union``: top-level arrays that merge as sets. ``paths``: below
    these the patch replaces, also in arrays of ``union``. ``remove_none``: a None removes its key, as RFC 7396 has it;
    otherwise None is a value like any other.
    """
    held = {key: current[key] for key in keep if key in current}
    if () in paths:
        return {**_clean(patch, remove_none), **held}
    wanted = dict(patch)
    for key in union:
        before, more = current.get(key), wanted.get(key)
        if (key,) not in paths and isinstance(more, list):
            wanted[key] = distinct([*before, *more] if isinstance(before, list) else more)
    return _merge(current, wanted, frozenset(paths), (), remove_none) | held


def _merge(current: Json, patch: Json, paths: frozenset[Path], at: Path, remove_none: bool) -> Json:
    merged = dict(current)
    for key, value in patch.items():
        here = (*at, key) if paths else ()
        before = merged.get(key)
        if value is None and remove_none:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(before, dict) and here not in paths:
            merged[key] = _merge(before, value, paths, here, remove_none)
        else:
            merged[key] = _clean(value, remove_none)
    return merged


def _clean(value: Any, remove_none: bool) -> Any:
    """``value`` as it is stored where nothing stood before: an object without the keys that were to be removed."""
    if remove_none and isinstance(value, dict):
        return {key: _clean(inner, True) for key, inner in value.items() if inner is not None}
    return value


def remove_values(data: Json, path: Sequence[str], values: Sequence[Any]) -> Json:
    """``data`` without ``values`` in the array at ``path``; as it is when there is no array."""
    if not path:
        return data
    key, *rest = path
    inner = data.get(key)
    if rest and isinstance(inner, dict):
        return data | {key: remove_values(inner, rest, values)}
    if rest or not isinstance(inner, list):
        return data
    unwanted = {identity(value) for value in values}
    return data | {key: [value for value in inner if identity(value) not in unwanted]}


def distinct(values: Sequence[Any]) -> list[Any]:
    """``values`` without those that are equal to an earlier one as JSON."""
    first: dict[Any, Any] = {}
    for value in values:
        first.setdefault(identity(value), value)
    return list(first.values())


def identity(value: Any) -> Any:
    """What two values share exactly when they are the same JSON: 1 is not true, and the order of keys does not matter."""
    return value if isinstance(value, str) else msgspec.json.encode(value, order="sorted")
