"""Events (spans, dataset records, log entries) between Braintrust's wire and our rows. Pure.

A row holds the event as it came, without what says where it goes and how it is merged. Transaction ids and cursors
have the vendor's form: 19 digits, so that clients may compare them as texts.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from labkeep.core.commands import RowIn
from labkeep.core.entities import Json, Row
from labkeep.core.errors import Invalid, Unsupported
from labkeep.core.ids import check_id
from labkeep.dialects.braintrust.translate import DATASET
from labkeep.operations.traces import Home, Target, TraceSet

KEPT_ON_MERGE = ("created", "span_id", "root_span_id", "span_parents", "_parent_id")
"""Fields in which a merge does not change the row that is there."""

UNITED = ("tags", "comments", "audit_data")
"""Lists to which a merge adds."""

KEPT_ON_REPLACE = ("comments", "audit_data")
"""What others said of a row: a new version of the row does not take it away."""

_CONTROL = frozenset(
    {
        "id",
        "experiment_id",
        "dataset_id",
        "project_id",
        "org_id",
        "log_id",
        "is_root",
        "_is_merge",
        "_merge_paths",
        "_array_delete",
        "_object_delete",
        "_audit_source",
        "_audit_metadata",
        "_xact_id",
        "_pagination_key",
        "_async_scoring_control",
        "_skip_async_scoring",
    }
)
"""Fields that direct the write, or that we answer ourselves."""

# --- transaction ids, positions, cursors ------------------------------------------------------------------------------

_XACT_BASE = 0x0DE1 << 48

_PRETTY_INVERSE = 1522336535492693385
"""Undoes, modulo 2**64, the factor by which clients turn a transaction id into 16 hexadecimal digits."""


def xact_out(xact: int) -> str:
    """A transaction id on the wire: 19 digits."""
    return str(_XACT_BASE + xact)


def xact_in(text: Any, name: str = "version") -> int:
    """The transaction id in ``text`` (or a number), also in its short form of 16 hexadecimal digits.

    One below all of ours reads the state before the first write.
    """
    value = str(text)
    if re.fullmatch(r"[0-9a-f]{16}", value):
        value = str(_XACT_BASE | int(value, 16) * _PRETTY_INVERSE % 2**64)
    if isinstance(text, bool) or not re.fullmatch(r"[0-9]{1,20}", value):
        raise Invalid(f"{name} must be a transaction id, such as {xact_out(1)}", path=name)
    return max(0, min(int(value) - _XACT_BASE, 2**48 - 1))


def cursor_out(position: int) -> str:
    """The cursor after a trace at ``position``."""
    return base64.urlsafe_b64encode(position.to_bytes(8)).decode().rstrip("=")


def cursor_in(cursor: Any) -> int:
    """The position in a cursor; Invalid for anything that is not one of ours."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (TypeError, ValueError, binascii.Error):
        raw = b""
    position = int.from_bytes(raw)
    if len(raw) != 8 or position >= 2**63:
        raise Invalid("the cursor is not one that this list gave", path="cursor")
    return position


# --- in ---------------------------------------------------------------------------------------------------------------


def row_in(event: Any, place: str) -> RowIn:
    """An event to write. ``place`` says where it stands in the request, for errors."""
    if not isinstance(event, dict):
        raise Invalid(f"{place} must be a JSON object", path=place)
    origin = event.get("origin")
    if "comment" in event and isinstance(origin, dict) and origin.get("id"):
        return _comment_in(event, id_in(origin["id"], place, "origin.id"))
    id = id_in(event.get("id"), place)
    root_id = root_in(event, place)
    if event.get("_object_delete"):
        return RowIn(id=id, delete=True, root_id=root_id)
    data = {key: value for key, value in event.items() if key not in _CONTROL}
    if event.get("_audit_metadata"):
        data["audit_data"] = [{"source": event.get("_audit_source"), "metadata": event["_audit_metadata"]}]
    if not event.get("_is_merge"):
        return RowIn(id=id, data=data, root_id=root_id, keep=KEPT_ON_REPLACE)
    return RowIn(
        id=id,
        data=data,
        root_id=root_id,
        merge=True,
        keep=KEPT_ON_MERGE,
        union=UNITED,
        paths=_paths_in(event.get("_merge_paths"), place),
        remove=_removals_in(event.get("_array_delete"), place),
    )


def _comment_in(event: Json, id: str | None) -> RowIn:
    """A comment is a record of its own on the wire; it belongs to the row that it is about."""
    shown = {key: event[key] for key in ("id", "created", "comment") if event.get(key) is not None}
    shown |= {"source": event.get("_audit_source"), "metadata": event.get("_audit_metadata")}
    return RowIn(id=id, data={"comments": [shown]}, merge=True, union=UNITED)


def id_in(value: Any, place: str, name: str = "id") -> str | None:
    """A row's id: text, or a number as text. None has the server make one."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise Invalid(f"{place}.{name} must be a text", path=f"{place}.{name}")


def root_in(event: Json, place: str) -> str | None:
    """What groups the event's trace; None when it is a trace of its own."""
    root, parent = event.get("root_span_id"), event.get("_parent_id")
    if root is not None:
        return id_in(root, place, "root_span_id")
    if parent is not None:
        return id_in(parent, place, "_parent_id")
    return id_in(event.get("span_id"), place, "span_id")


def _paths_in(paths: Any, place: str) -> tuple[tuple[str, ...], ...]:
    if paths is None:
        return ()
    if not isinstance(paths, list) or not all(isinstance(path, list) for path in paths):
        raise Invalid(f"{place}._merge_paths must be a list of paths", path=f"{place}._merge_paths")
    return tuple(tuple(str(step) for step in path) for path in paths)


def _removals_in(removals: Any, place: str) -> tuple[tuple[tuple[str, ...], tuple[Any, ...]], ...]:
    if removals is None:
        return ()
    found = []
    for removal in removals if isinstance(removals, list) else [removals]:
        if not isinstance(removal, dict) or not isinstance(removal.get("delete"), list):
            raise Invalid(f"{place}._array_delete must be a list of path and delete", path=f"{place}._array_delete")
        found.append((_paths_in([removal.get("path")], place)[0], tuple(removal["delete"])))
    return tuple(found)


def rows_in(events: Any, name: str = "events") -> list[RowIn]:
    """The list of events in a request."""
    if not isinstance(events, list):
        raise Invalid(f"{name} must be a list", path=name)
    return [row_in(event, f"{name}[{number}]") for number, event in enumerate(events)]


_FEEDBACK = ("scores", "expected", "tags")


def feedback_in(items: Any) -> list[RowIn]:
    """Feedback on rows: each item merges into its row, comment and all."""
    if not isinstance(items, list):
        raise Invalid("feedback must be a list", path="feedback")
    return [_feedback_row(item, f"feedback[{number}]") for number, item in enumerate(items)]


def _feedback_row(item: Any, place: str) -> RowIn:
    if not isinstance(item, dict) or item.get("id") is None:
        raise Invalid(f"{place} must be an object with the id of a row", path=place)
    source, metadata = item.get("source") or "external", item.get("metadata")
    data = {name: item[name] for name in _FEEDBACK if item.get(name) is not None}
    if metadata:
        data["audit_data"] = [{"source": source, "metadata": metadata}]
    if item.get("comment") is not None:
        data["comments"] = [{"comment": {"text": item["comment"]}, "source": source, "metadata": metadata}]
    return RowIn(id=id_in(item["id"], place), data=data, merge=True, keep=KEPT_ON_MERGE, union=UNITED)


class Batch(NamedTuple):
    """Rows by where they go, and for each row of the request its set and its place in that."""

    sets: list[TraceSet]
    places: list[tuple[int, int]]


def batch_in(rows: Any) -> Batch:
    """The rows of one request to /logs3, which may go to several objects."""
    if isinstance(rows, dict):
        raise Unsupported("overflow uploads are not offered: send the rows themselves")
    numbers: dict[Target, int] = {}
    seen: dict[tuple[str, ...], int] = {}
    sets: list[TraceSet] = []
    places: list[tuple[int, int]] = []
    for number, row in enumerate(rows_in(rows, "rows")):
        ids = tuple(str(rows[number].get(name)) for name in _OWNERS)
        at = seen.get(ids, -1)
        if at < 0:
            target = target_in(rows[number], f"rows[{number}]")
            at = seen[ids] = numbers.setdefault(target, len(sets))
            if at == len(sets):
                sets.append(TraceSet(target=target, rows=[]))
        places.append((at, len(sets[at].rows)))
        sets[at].rows.append(row)
    return Batch(sets, places)


_OWNERS = ("experiment_id", "dataset_id", "prompt_session_id", "project_id")


def target_in(row: Json, place: str) -> Target:
    """Where a row of /logs3 goes, by the ids that it names."""
    for name, home, type in (("experiment_id", Home.run, ""), ("dataset_id", Home.document, DATASET)):
        if row.get(name) is not None:
            return Target(home, check_id(str(row[name]), f"{place}.{name}"), type)
    if row.get("prompt_session_id") is not None:
        raise Unsupported(f"{place} belongs to a playground, which is not offered here")
    if row.get("project_id") is not None:
        return Target(Home.log, check_id(str(row["project_id"]), f"{place}.project_id"))
    raise Invalid(f"{place} names no experiment_id, dataset_id or project_id", path=place)


ATTACHED = "braintrust_attachment"
"""The type of a reference to an attachment, wherever in a row it stands."""


def attached_in(value: Any) -> Iterator[str]:
    """Keys of the attachments that a value refers to."""
    if isinstance(value, dict):
        if value.get("type") == ATTACHED and isinstance(value.get("key"), str):
            yield value["key"]
        for inner in value.values():
            yield from attached_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from attached_in(inner)


def with_attachments(part: TraceSet) -> TraceSet:
    """``part`` with the keys that its rows refer to."""
    keys = dict.fromkeys(key for row in part.rows for key in attached_in(row.data) if 0 < len(key) <= 1024)
    return msgspec.structs.replace(part, attachments=tuple(keys))


# --- out --------------------------------------------------------------------------------------------------------------

_SPAN_FIELDS: tuple[str, ...] = (
    "input",
    "output",
    "expected",
    "error",
    "scores",
    "metadata",
    "tags",
    "metrics",
    "context",
    "span_parents",
    "span_attributes",
    "origin",
)
_RECORD_FIELDS: tuple[str, ...] = ("input", "expected", "metadata", "tags", "origin")

_EMPTY: dict[Home, Json] = {
    Home.run: dict.fromkeys(_SPAN_FIELDS),
    Home.log: dict.fromkeys(_SPAN_FIELDS),
    Home.document: dict.fromkeys(_RECORD_FIELDS),
}


def event_out(row: Row, address: Json, home: Home) -> Json:
    """A row on the wire. ``address`` are the ids of what it belongs to. A row without spans is a trace of its own."""
    data = row.data
    root = data.get("root_span_id") or row.root_id
    return {
        **_EMPTY[home],
        **{key: value for key, value in data.items() if key != "_parent_id"},
        "id": row.id,
        "_xact_id": xact_out(row.xact),
        "_pagination_key": f"p{row.position:020d}",
        "created": data.get("created") or row.created_at,
        "span_id": data.get("span_id") or row.id,
        "root_span_id": root,
        "is_root": not data.get("span_parents") and not data.get("_parent_id"),
        **address,
    }


def events_out(rows: Iterable[Row], address: Json, home: Home) -> list[Json]:
    """Rows on the wire, in their order."""
    return [event_out(row, address, home) for row in rows]


def address_of(target: Target, project_id: str, organization_id: str) -> Json:
    """The ids by which an event says where it belongs."""
    if target.home == Home.run:
        return {"project_id": project_id, "experiment_id": target.id}
    if target.home == Home.document:
        return {"project_id": project_id, "dataset_id": target.id}
    return {"org_id": organization_id, "project_id": project_id, "log_id": "g"}


# --- bodies that are almost JSON --------------------------------------------------------------------------------------


def repaired(data: bytes) -> bytes | None:
    """``data`` as strict JSON when it is what other encoders write for it, else None.

    A client that logs in the background loses the whole batch when it is refused, so NaN and the infinities become
    null here, and halves of surrogate pairs the replacement character.
    """
    try:
        value = json.loads(data.decode("utf-8", "replace"), parse_constant=lambda _name: None)
        return msgspec.json.encode(_tidy(value))
    except (ValueError, RecursionError):
        return None


def _tidy(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {_tidy(key): _tidy(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_tidy(inner) for inner in value]
    return value
