"""Rows that cannot be sent as they are, made into rows that can: a bad value costs that value, not the run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from labkeep.client.spool import Change, End, Op, Rows
from labkeep.core import json_values
from labkeep.core.columns import LIMITS, RESERVED, STEP, TIMESTAMP, Row, decode, encode_rows
from labkeep.core.errors import Invalid, LabkeepError

log = logging.getLogger("labkeep")

LONGEST_TEXT = 10_000
told: set[str] = set()
"""What was warned of in this process."""


def warn_once(about: str, message: str, *arguments: object) -> None:
    """Log a warning the first time that this process has it to say."""
    if about not in told:
        told.add(about)
        log.warning(message, *arguments)


def plain_values(data: Mapping[Any, Any]) -> dict[str, Any]:
    """A copy of what was logged, in JSON's own types: what cannot be one is its ``str()``."""
    if json_values.SCALARS.issuperset(map(type, data.values())):
        return dict(data)
    return {key: _plain(key, value) for key, value in data.items()}


def _plain(key: Any, value: Any) -> Any:
    try:
        return json_values.plain(value)
    except Exception as error:  # noqa: BLE001 - foreign code: `tolist` of whatever was logged may raise anything
        warn_once(
            f"value:{type(value).__name__}",
            "labkeep: %r is a %s, which is stored as text (%s)",
            key,
            type(value).__name__,
            error,
        )
        return _text(value)


def _text(value: Any) -> str:
    try:
        return str(value)[:LONGEST_TEXT]
    except Exception as error:  # noqa: BLE001 - foreign code again: its __str__
        return f"<{type(value).__name__} without text: {type(error).__name__}>"


def encode(rows: Sequence[Row]) -> list[tuple[int, bytes]]:
    """The rows as batches, each with its count: one, unless they are too much for one.

    What the format refuses is repaired, value by value; this never raises.
    """
    try:
        return [(len(rows), encode_rows(rows))]
    except Invalid:
        return _encode_repaired([(step, at, _accepted(step, at, data)) for step, at, data in rows])


def _encode_repaired(rows: Sequence[Row]) -> list[tuple[int, bytes]]:
    try:
        return [(len(rows), encode_rows(rows))]
    except Invalid as error:
        if len(rows) > 1:
            middle = len(rows) // 2
            return _encode_repaired(rows[:middle]) + _encode_repaired(rows[middle:])
        warn_once("trimmed", "labkeep: a row is too large, and is cut down: %s", error)
        return [(1, encode_rows([(step, at, _trimmed(data)) for step, at, data in rows]))]


def _trimmed(data: Mapping[str, Any]) -> dict[str, Any]:
    """What of a row fits one batch whatever it holds: its first keys, and only numbers unshortened."""
    first = list(data.items())[: LIMITS.columns // 8]
    return {key: value if isinstance(value, float | int) else _text(value)[:LONGEST_TEXT] for key, value in first}


def _accepted(step: int, at: float | None, data: Mapping[Any, Any]) -> dict[str, Any]:
    """What of one row the format takes, with unfit keys renamed and unfit values as text."""
    try:
        encode_rows([(step, at, data)])
        return dict(data)
    except Invalid:
        return dict(_accepted_pair(step, key, value) for key, value in _pairs(data))


def _pairs(data: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        name = unicode(str(key)).replace("\0", "\\0")[:512] or "(empty)"
        if name in RESERVED:
            name = f"user{name}"
        if name != key:
            warn_once(f"key:{name}", "labkeep: the key %r cannot be stored; it is %r", key, name)
        yield name, value


def _accepted_pair(step: int, key: str, value: Any) -> tuple[str, Any]:
    try:
        encode_rows([(step, None, {key: value})])
    except Invalid as error:
        warn_once(f"stored:{key}", "labkeep: a value of %r is stored as text: %s", key, error)
        value = unicode(_text(value))
    return key, value


def sendable(value: Any) -> Any:
    """The same plain JSON value without what neither JSON nor a spool can hold: lone surrogates, integers over 64 bits."""
    if type(value) is str:
        return unicode(value)
    if type(value) is int and not -(2**63) <= value < 2**63:
        return float(value) if abs(value) < 2**1000 else _text(value)
    if type(value) is dict:
        return {unicode(str(key)): sendable(inner) for key, inner in value.items()}
    if type(value) is list:
        return [sendable(inner) for inner in value]
    return value


def unicode(text: str) -> str:
    """The text with what is not Unicode written out."""
    return text.encode(errors="backslashreplace").decode()


# --- ops that the server refuses


def repaired(op: Op, error: LabkeepError) -> list[Op]:
    """What to send instead of an op whose content was refused, down to the one value that it is about."""
    if isinstance(op, Rows) and op.count > 1:
        return [*halves(op)]
    if isinstance(op, Change) and len(parts := _parts(op.fields)) > 1:
        middle = len(parts) // 2
        return [Change(_fields(parts[:middle])), Change(_fields(parts[middle:]))]
    if isinstance(op, End) and op.summary:
        return [Change({"summary": op.summary}), msgspec.structs.replace(op, summary={})]
    log.warning("labkeep: the server does not take %s: %s", _described(op), error)
    return [emptied(op)] if isinstance(op, Rows) and not _is_empty(op) else []


def _parts(fields: dict[str, Any]) -> list[tuple[str, str | None, Any]]:
    """(field, key, value): each field alone; of config and summary each value alone."""
    parts: list[tuple[str, str | None, Any]] = []
    for name, value in fields.items():
        spread = name in ("config", "summary") and isinstance(value, dict)
        parts.extend([(name, key, inner) for key, inner in value.items()] if spread else [(name, None, value)])
    return parts


def _fields(parts: list[tuple[str, str | None, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, key, value in parts:
        if key is None:
            fields[name] = value
        else:
            fields.setdefault(name, {})[key] = value
    return fields


def halves(op: Rows) -> tuple[Rows, Rows]:
    """The same rows as two ops."""
    rows = _rows(op)
    middle = len(rows) // 2
    return _op(op, 0, rows[:middle]), _op(op, middle, rows[middle:])


def emptied(op: Rows) -> Rows:
    """The same rows without values, so that those behind keep their numbers."""
    return _op(op, 0, [(step, at, {}) for step, at, _ in _rows(op)])


def _is_empty(op: Rows) -> bool:
    """Whether there is nothing in the rows that could be left out."""
    return all(not data for _, _, data in _rows(op))


def _rows(op: Rows) -> list[Row]:
    return [(row.pop(STEP), row.pop(TIMESTAMP, None), row) for row in decode(op.data).rows()]


def _op(op: Rows, skipped: int, rows: Sequence[Row]) -> Rows:
    return Rows(op.stream, op.offset + skipped, len(rows), encode_rows(rows))


def _described(op: Op) -> str:
    if isinstance(op, Rows):
        return f"row {op.offset} of {op.stream}"
    return f"the new {', '.join(op.fields)}" if isinstance(op, Change) else f"the {type(op).__name__}"
