"""What a process sends while it runs: history, system metrics, summary, console, and how it ended.

The client gives a run up for good when one of these requests is refused. So nothing that a user logs is refused: what
cannot be kept as it is, is kept as far as it can be.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from labkeep.core import json_values
from labkeep.core.columns import LIMITS, STEP, TIMESTAMP, Batch, Limits, Row, from_rows
from labkeep.core.entities import Json
from labkeep.core.errors import Invalid, Unavailable
from labkeep.dialects.wandb.engine import actor_in
from labkeep.dialects.wandb.translate import DIALECT, parse_object
from labkeep.http.wire import INLINE_BYTES, actor_of, answer, read_body, run, store_of
from labkeep.operations import resends, sessions
from labkeep.operations.history import prepare_batch
from labkeep.operations.resends import Resent
from labkeep.operations.sessions import Batches, Delivered, Delivery, Part

log = logging.getLogger("labkeep.wandb")

STREAMS = {"wandb-history.jsonl": "history", "wandb-events.jsonl": "system", "output.log": "console"}
"""File in a request -> our stream."""

WRITER = "x-wandb-async-client-id"
"""Header with which a process says that others write the same run, and who it is."""

TRIES = 10
"""How often a piece is compared anew with a history that grows in the meantime, before it is left to a retry."""

WIDE = Limits(columns=100_000)
"""What a row may have: more than our limit for a batch of rows, whose size grows with keys times rows."""

SUMMARY = "wandb-summary.json"

_LINE = re.compile(r"(?:(ERROR) )?([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+) (.*)", re.DOTALL)


class Piece(msgspec.Struct, frozen=True):
    """Lines of one file; ``offset`` is the number of the first."""

    offset: int = 0
    content: list[str] = []


class Posted(msgspec.Struct, frozen=True):
    """Body of a request."""

    files: dict[str, Piece] | None = None
    preempting: bool | None = None
    complete: bool | None = None
    exitcode: int | None = None


_posted = msgspec.json.Decoder(Posted)
_rows = msgspec.json.Decoder(list[dict[str, Any]])
_row = msgspec.json.Decoder(dict[str, Any])


async def receive(request: Request) -> Response:
    """POST /files/{entity}/{project}/{run}/file_stream."""
    request.state.actor = await actor_in(request, request.path_params["entity"])
    body = await read_body(request)
    project, handle = request.path_params["project"], request.path_params["run"]
    if WRITER in request.headers:
        part = await asyncio.to_thread(part_of, body, project, handle, request.headers[WRITER])
        delivered = await run(request, sessions.deliver_part, part, writes=True)
        return answer({"stopped": True} if delivered.stop else {})
    if len(body) <= INLINE_BYTES:
        delivery = prepare(body, project, handle)
    else:
        delivery = await asyncio.to_thread(prepare, body, project, handle)
    delivered = await _deliver(request, delivery)
    return answer({"stopped": True} if delivered.stop else {})


async def _deliver(request: Request, given: Delivery) -> Delivered:
    """Store a piece, without the rows that the history has already: a log that is sent again begins behind them."""
    delivery = given
    for _ in range(TRIES):
        try:
            return await run(request, sessions.deliver, delivery, writes=True)
        except Resent as found:
            store, actor = store_of(request), actor_of(request)
            seen, fresh = await asyncio.to_thread(resends.without_known, store, actor, found.run_id, given.batches)
            delivery = given._replace(batches=fresh, seen=seen)
    raise Unavailable(f"run {given.handle[:80]!r} is written to by others; send the rows again")


def prepare(body: bytes, project: str, handle: str) -> Delivery:
    """What a request says, packed and summarised: all that can be done before the transaction. Pure."""
    posted = decode(body)
    return _delivery(posted, project, handle)._replace(batches=_batches(posted.files or {}))


def part_of(body: bytes, project: str, handle: str, writer: str) -> Part:
    """What a request says whose offsets are those of one writer among several. Pure."""
    posted = decode(body)
    files = posted.files or {}

    def batches(starts: Mapping[str, int]) -> Batches:
        moved = {name: Piece(starts[STREAMS[name]], files[name].content) for name in STREAMS if name in files}
        return _batches(moved)

    digest = hashlib.sha256(body).hexdigest()
    return Part(writer[:100], digest, _delivery(posted, project, handle), batches)


def _batches(files: Mapping[str, Piece]) -> Batches:
    return [
        prepare_batch("", stream, offset, batch)
        for name, stream in STREAMS.items()
        if name in files
        for offset, batch in batches_of(rows_of(stream, files[name]), max(0, files[name].offset))
    ]


def _delivery(posted: Posted, project: str, handle: str) -> Delivery:
    files = posted.files or {}
    summary = files[SUMMARY].content if SUMMARY in files else []
    exit_code = None
    if posted.complete:
        exit_code = 0 if posted.exitcode is None else posted.exitcode
    extra = None if posted.preempting is None else {DIALECT: {"preempting": posted.preempting}}
    return Delivery(project, handle, (), _summary(summary), extra, exit_code)


def decode(body: bytes) -> Posted:
    """The body. Invalid when it is no JSON of this form."""
    try:
        return _posted.decode(body) if body.strip() else Posted()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        try:  # half a character pair in a console line is no reason to lose a run
            return msgspec.convert(json.loads(body), Posted)
        except (ValueError, msgspec.ValidationError, RecursionError):
            raise Invalid(f"the body is not what a run sends: {error}", path="$") from None


def _summary(lines: list[str]) -> Json | None:
    """The last summary of several; one that cannot be read is passed over."""
    for line in reversed(lines):
        try:
            return parse_object(line, SUMMARY)
        except Invalid as error:
            log.warning("a summary was passed over: %s", error)
    return None


# --- lines to rows ----------------------------------------------------------------------------------------------------


def rows_of(stream: str, piece: Piece) -> list[Row]:
    """The rows of one file, one for each line whatever is in it: a line's number is its offset."""
    start = max(0, piece.offset)
    if stream == "console":
        return [(start + at, None, console_row(line)) for at, line in enumerate(piece.content)]
    return [_history_row(found, start + at) for at, found in enumerate(_objects(piece.content))]


def _objects(lines: list[str]) -> list[dict[str, Any]]:
    try:
        found = _rows.decode(f"[{','.join(lines)}]")
        if len(found) == len(lines):
            return found
    except (msgspec.MsgspecError, UnicodeEncodeError):
        pass  # NaN and the infinities, which are not JSON: line by line
    return [_object(line) for line in lines]


def _object(line: str) -> dict[str, Any]:
    try:
        return _row.decode(line)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        pass
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    log.warning("a line that is no JSON object was kept as an empty row")
    return {}


def _history_row(found: dict[str, Any], number: int) -> Row:
    step, timestamp = found.pop(STEP, None), found.pop(TIMESTAMP, None)
    if type(step) is not int:
        step = int(step) if type(step) is float and step.is_integer() else number
    if type(timestamp) not in (int, float):
        timestamp = None
    found.pop("_wandb", None)
    return step, timestamp, found


def console_row(line: str) -> Json:
    """A console line without the time and the level that the client writes before it."""
    if line.startswith('{"'):
        structured = _structured(line)
        if structured is not None:
            return structured
    found = _LINE.fullmatch(line)
    if found is None:
        return {"line": _storable(line)}
    row: Json = {"line": _storable(found[3]), "time": found[2]}
    if found[1]:
        row["level"] = "error"
    return row


def _structured(line: str) -> Json | None:
    try:
        found = _row.decode(line)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return None
    if not isinstance(found.get("content"), str):
        return None
    row: Json = {"line": found["content"]}
    for theirs, ours in (("ts", "time"), ("level", "level"), ("label", "label")):
        if isinstance(found.get(theirs), str) and found[theirs]:
            row[ours] = found[theirs]
    return row


def _storable(text: str) -> str:
    return text.encode(errors="replace").decode()


# --- rows to batches --------------------------------------------------------------------------------------------------


def batches_of(rows: list[Row], offset: int) -> Iterator[tuple[int, Batch]]:
    """The rows in as few batches as it takes: halved while a batch is too large, each row mended that cannot be kept."""
    if not rows:
        return
    try:
        yield offset, from_rows(rows, WIDE if len(rows) == 1 else LIMITS)
    except Invalid as error:
        if len(rows) == 1:
            log.warning("a row was kept in part: %s", error)
            yield offset, from_rows([_mended(rows[0])], WIDE)
        else:
            half = len(rows) // 2
            yield from batches_of(rows[:half], offset)
            yield from batches_of(rows[half:], offset + half)


def _mended(row: Row) -> Row:
    """The row without the values that cannot be kept, and without those that are too many."""
    step, timestamp, values = row
    step = step if -(2**63) <= step < 2**63 else 0
    fitting = {key: value for key, value in values.items() if _fits(key, value)}
    flat = json_values.flatten(fitting, WIDE.json_depth)
    return step, timestamp, dict(islice(flat.items(), WIDE.columns - 2))


def _fits(key: str, value: Any) -> bool:
    alone: Mapping[str, Any] = {key: value}
    try:
        from_rows([(0, None, alone)], WIDE)
    except Invalid:
        return False
    return True
