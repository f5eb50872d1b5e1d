"""Per-key summaries of histories as rows: what is known of a metric without reading it, and what it is found by.

A summary covers all rows of the stream. Beside it stands the summary of the sealed rows alone, so that after a rewrite
of unsealed rows the whole can be made again from the chunks, without the segments that a transaction cannot read. Where
sealed rows were written over, the summary is marked *stale* and is an estimate until the stream is sealed again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Text, bindparam, delete, select

from labkeep.core import entities, json_values
from labkeep.core.fields import NAMESPACES
from labkeep.storage import index
from labkeep.storage import tables as t
from labkeep.storage.prepared import Ready
from labkeep.storage.reductions import Summary
from labkeep.storage.transaction import Tx

INDEXED_KEYS = 1_000
"""Keys of one batch up to which their last values are indexed for filters."""

INDEXED_STREAM = "history"
"""The stream whose metrics runs are found by."""

UNSUMMARISED = frozenset({"console"})
"""Streams of text, where a summary of each key would cost much and say nothing."""

LAST_CHARACTERS = 1_024
"""Longest text or JSON text of a last value that is kept in a summary."""

BATCH = 512

assert "metrics" in NAMESPACES


class Place(NamedTuple):
    """One stream of one run."""

    organization_id: str
    run_id: str
    stream: str


class Known(NamedTuple):
    """What is stored of one key."""

    total: Summary
    sealed: Summary | None = None
    stale: bool = False


Summaries = Mapping[str, Summary]


# --- reading ----------------------------------------------------------------------------------------------------------

_HERE = (
    t.series.c.organization_id == bindparam("organization_id"),
    t.series.c.run_id == bindparam("run_id"),
    t.series.c.stream == bindparam("stream"),
)
_EVERY = select(t.series.c.key, t.series.c.summary).where(*_HERE)
_ALL = Ready(_EVERY)
_PAGE = Ready(_EVERY.where(t.series.c.key > bindparam("after")).order_by(t.series.c.key).limit(bindparam("count")))


def load(tx: Tx, place: Place, keys: Collection[str] | None = None) -> dict[str, Known]:
    """What is stored of ``keys``, or of all keys of the stream."""
    if keys is None:
        return {key: _known(summary) for key, summary in _ALL.rows(tx, place._asdict())}
    found: dict[str, Known] = {}
    where = place._asdict()
    for part in _parts(keys):
        names = dict(enumerate(part))
        some = _some(len(names) if len(names) <= 8 else 1 << (len(names) - 1).bit_length())
        rows = some.query.rows(tx, where | {name: names.get(n, part[0]) for n, name in enumerate(some.names)})
        found.update({key: _known(summary) for key, summary in rows})
    return found


class _Some(NamedTuple):
    """SELECT of a fixed number of keys, and the names of its parameters."""

    query: Ready
    names: tuple[str, ...]


@cache
def _some(count: int) -> _Some:
    """Made once for each of a few sizes, and filled up: an IN of any length is put together anew with each use."""
    names = tuple(f"key_{n}" for n in range(count))
    return _Some(Ready(_EVERY.where(t.series.c.key.in_([bindparam(name, type_=Text) for name in names]))), names)


def page(tx: Tx, place: Place, after: str, limit: int) -> list[entities.Series]:
    """Summaries in order of keys, at most ``limit`` of them, after a key."""
    rows = _PAGE.rows(tx, {**place._asdict(), "after": after, "count": limit})
    return [_series(place.stream, key, _known(summary).total) for key, summary in rows]


def _series(stream: str, key: str, total: Summary) -> entities.Series:
    return entities.Series(
        stream=stream,
        key=key,
        count=total.count,
        first=total.first,
        last=total.last,
        min=total.min,
        max=total.max,
        last_step=total.last_step,
    )


# --- writing ----------------------------------------------------------------------------------------------------------


def add(tx: Tx, owner: index.Owner, place: Place, fresh: Summaries) -> None:
    """Account for rows that come after all others."""
    known = load(tx, place, fresh.keys())
    _store(tx, owner, place, {key: _extended(known.get(key), summary) for key, summary in fresh.items()})


def begin(tx: Tx, owner: index.Owner, place: Place, total: Summaries, sealed: Summaries) -> None:
    """The first summaries of a stream that begins with rows of another."""
    _store(tx, owner, place, {key: Known(summary, sealed.get(key)) for key, summary in total.items()})


def _extended(known: Known | None, fresh: Summary) -> Known:
    return Known(fresh) if known is None else known._replace(total=followed(known.total, fresh))


def rebuild(tx: Tx, owner: index.Owner, place: Place, keys: Collection[str], unsealed: Summaries) -> None:
    """Make the summaries of ``keys`` again after a rewrite: the sealed rows as they were, then the ``unsealed`` ones."""
    known = load(tx, place, keys)
    after: dict[str, Known] = {}
    gone: list[str] = []
    for key in keys:
        before = known.get(key)
        sealed = before.sealed if before else None
        total = _both(sealed, unsealed.get(key))
        if total is None:
            gone.append(key)
        else:
            after[key] = Known(total, sealed, before.stale if before else False)
    _store(tx, owner, place, after)
    _drop(tx, owner, place, gone)


def mark_stale(tx: Tx, owner: index.Owner, place: Place, fresh: Summaries, *, at_end: bool) -> None:
    """Sealed rows were written over by ``fresh``: estimate until the stream is sealed again."""
    known = load(tx, place)
    for key, summary in fresh.items():
        before = known.get(key)
        known[key] = Known(summary) if before is None else Known(_widened(before.total, summary, at_end), before.sealed)
    _store(tx, owner, place, {key: one._replace(stale=True) for key, one in known.items()}, indexed=fresh.keys())


def _widened(total: Summary, fresh: Summary, at_end: bool) -> Summary:
    both = followed(total, fresh) if at_end else followed(fresh, total)
    return msgspec.structs.replace(both, count=max(total.count, fresh.count), first=total.first)


def seal(tx: Tx, owner: index.Owner, place: Place, fresh: Summaries) -> None:
    """Rows with these summaries, which follow all sealed rows, are sealed now. What is known in total stays."""
    known = load(tx, place, fresh.keys())
    after = {
        key: known[key]._replace(sealed=_both(known[key].sealed, summary))
        for key, summary in fresh.items()
        if key in known
    }
    _store(tx, owner, place, after, indexed=())


def settle(tx: Tx, owner: index.Owner, place: Place, sealed: Summaries, unsealed: Summaries) -> None:
    """Replace every stale summary by an exact one."""
    stale = [key for key, one in load(tx, place).items() if one.stale]
    after: dict[str, Known] = {}
    for key in stale:
        total = _both(sealed.get(key), unsealed.get(key))
        if total is not None:
            after[key] = Known(total, sealed.get(key))
    _store(tx, owner, place, after)
    _drop(tx, owner, place, [key for key in stale if key not in after])


def take(tx: Tx, owner: index.Owner, place: Place, key: str) -> dict[str, Any] | None:
    """Forget what is known of a key; answers it as it was stored, None when nothing was."""
    found = load(tx, place, [key]).get(key)
    _drop(tx, owner, place, [key])
    return None if found is None else _stored(found)


def give_back(tx: Tx, owner: index.Owner, place: Place, key: str, taken: dict[str, Any]) -> None:
    """Put what `take` answered before what is known now: an estimate until the segments were read."""
    before, now = _known(taken), load(tx, place, [key]).get(key)
    total = before.total if now is None else followed(before.total, now.total)
    _store(tx, owner, place, {key: Known(total, before.sealed, stale=True)})


def stale_keys(tx: Tx, place: Place) -> list[str]:
    """Keys whose summary is an estimate."""
    return [key for key, known in load(tx, place).items() if known.stale]


def followed(a: Summary, b: Summary) -> Summary:
    """The summary of rows with summary ``a`` and then rows with summary ``b``."""
    return Summary(
        a.count + b.count,
        b.last,
        b.last_step,
        b.first if a.first is None else a.first,
        b.min if a.min is None or (b.min is not None and b.min < a.min) else a.min,
        b.max if a.max is None or (b.max is not None and b.max > a.max) else a.max,
        a.nan_count + b.nan_count,
    )


def _both(a: Summary | None, b: Summary | None) -> Summary | None:
    if a is None or b is None:
        return b if a is None else a
    return followed(a, b)


def _store(
    tx: Tx, owner: index.Owner, place: Place, after: Mapping[str, Known], indexed: Collection[str] | None = None
) -> None:
    where = place._asdict()
    tx.upsert(t.series, [{**where, "key": key, "summary": _stored(known)} for key, known in after.items()])
    names = after.keys() if indexed is None else indexed
    if place.stream == INDEXED_STREAM and 0 < len(names) <= INDEXED_KEYS:
        lasts = {f"metrics.{key}": after[key].total.last for key in names}
        index.put(tx, owner, {path: last for path, last in lasts.items() if type(last) in (int, float)})


def _drop(tx: Tx, owner: index.Owner, place: Place, keys: Sequence[str]) -> None:
    s = t.series.c
    here = (s.organization_id == place.organization_id, s.run_id == place.run_id, s.stream == place.stream)
    for part in _parts(keys):
        tx.execute(delete(t.series).where(*here, s.key.in_(part)))
    if place.stream == INDEXED_STREAM:
        index.drop(tx, owner, [f"metrics.{key}" for key in keys])


def _parts(keys: Iterable[str]) -> Iterator[list[str]]:
    wanted = list(keys)
    for start in range(0, len(wanted), BATCH):
        yield wanted[start : start + BATCH]


# --- the form of a row ------------------------------------------------------------------------------------------------


def _stored(known: Known) -> dict[str, Any]:
    row = _fields(known.total)
    if known.sealed is not None:
        row["sealed"] = _fields(known.sealed)
    if known.stale:
        row["stale"] = True
    return row


def _fields(summary: Summary) -> dict[str, Any]:
    fields: dict[str, Any] = {"count": summary.count, "last_step": summary.last_step, "nan_count": summary.nan_count}
    for name in ("first", "min", "max"):
        value = getattr(summary, name)
        fields[name] = json_values.name_of(value) if type(value) is float and not math.isfinite(value) else value
    last = summary.last
    if type(last) is float and not math.isfinite(last):
        fields["last_number"] = json_values.name_of(last)  # apart from the text "NaN"
    else:
        fields["last"] = short(last)
    return fields


def short(last: Any) -> Any:
    """A last value as JSON; None when it is too long to stand in a summary."""
    if type(last) in (int, float, bool, type(None)):
        return last
    if type(last) is str:
        return last if len(last) <= LAST_CHARACTERS else None
    return json_values.to_json(last) if len(json_values.to_text(last)) <= LAST_CHARACTERS else None


def _known(row: dict[str, Any]) -> Known:
    sealed = row.get("sealed")
    return Known(_summary(row), None if sealed is None else _summary(sealed), row.get("stale", False))


def _summary(row: dict[str, Any]) -> Summary:
    last = json_values.NON_FINITE[row["last_number"]] if "last_number" in row else row.get("last")
    first, low, high = (_number(row[name]) for name in ("first", "min", "max"))
    return Summary(row["count"], last, row["last_step"], first, low, high, row["nan_count"])


def _number(value: Any) -> float | None:
    return json_values.NON_FINITE[value] if type(value) is str else value
