"""Sending what runs had to keep on disk: ``labkeep.sync()`` and ``labkeep sync``."""

from __future__ import annotations

import os
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from labkeep.client import spool
from labkeep.client.delivery import Delivery
from labkeep.client.outbox import is_about_content
from labkeep.client.repairs import repaired
from labkeep.client.spool import Begin, End, Op, Rows
from labkeep.client.staging import Staging
from labkeep.core.errors import Corrupt, Gone, LabkeepError

if TYPE_CHECKING:
    from labkeep.client._sync.client import Labkeep


class Synced(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one spool file: ``outcome`` is sent, gone (its run is in the trash), kept, or busy.

    Only what was ``sent`` was removed from the disk.
    """

    file: str
    outcome: str
    run_id: str = ""
    rows: int = 0
    message: str = ""


def sync(
    dir: str | os.PathLike[str] | None = None,
    *,
    url: str | None = None,
    api_key: str | None = None,
    client: Labkeep | None = None,
) -> list[Synced]:
    """Send every spool of a folder (the usual one unless named), and remove what the server has acknowledged.

    Runs that belong to another server than the one that is configured are kept, unless ``url`` or ``client`` says that
    this one is meant. It may be interrupted, or run twice at once, without doubling anything. A run that is in the trash
    keeps its local copy. Raises Unavailable when the server does not answer at all.
    """
    from labkeep.client._sync.client import Labkeep

    anywhere = url is not None or client is not None
    folder = spool.folder(dir)
    files = sorted(folder.glob(f"*{spool.SUFFIX}"), key=lambda file: (file.name.count("."), file.name))
    if not files:
        return []
    with ExitStack() as stack:
        server = client or stack.enter_context(Labkeep(api_key, url))
        return [_sync_file(server, file, anywhere=anywhere) for file in files]


def _sync_file(client: Labkeep, path: Path, *, anywhere: bool) -> Synced:
    claimed = spool.claim(path)
    if claimed is None:
        return Synced(file=str(path), outcome="busy", message="another process is writing or sending it")
    with claimed:
        try:
            return _send(client, path, claimed, anywhere=anywhere)
        except Gone as error:
            return Synced(file=str(path), outcome="gone", message=f"{error.message}; the local copy is kept")
        except LabkeepError as error:
            return Synced(file=str(path), outcome="kept", message=error.message)


def _send(client: Labkeep, path: Path, claimed: FileIO, *, anywhere: bool) -> Synced:
    begin, end = _ends(path)
    run_id = begin.run["id"]
    if begin.url not in ("", client.base_url) and not anywhere:
        return Synced(
            file=str(path),
            outcome="kept",
            run_id=run_id,
            message=f"it belongs to {begin.url}; name it to send it there",
        )
    staging = Staging(path.parent / "files" / run_id)
    staging.needed(entry.digest for _, op in spool.read(path) for entry in spool.staged(op))
    deliver = Delivery(client, begin, staging)
    rows = 0
    for _, op in spool.read(path):
        _deliver(deliver, _whole(op, end) if isinstance(op, Begin) else op)
        rows += op.count if isinstance(op, Rows) else 0
    spool.discard(path, claimed)
    staging.close()
    return Synced(file=str(path), outcome="sent", run_id=run_id, rows=rows, message=f"sent to {client.base_url}")


def _ends(path: Path) -> tuple[Begin, End | None]:
    begin, end = None, None
    for _, op in spool.read(path):
        begin = begin or (op if isinstance(op, Begin) else None)
        end = op if isinstance(op, End) else end
    if begin is None:
        raise Corrupt(f"{path} does not say which run it is of", path=str(path))
    return begin, end


def _whole(begin: Begin, end: End | None) -> Begin:
    """A run that ended long ago is created as ended, so that it keeps the time at which it did."""
    if end is None:
        return begin
    return Begin(
        run={**begin.run, "status": end.status, "exit_code": end.exit_code, "finished_at": end.at}, url=begin.url
    )


def _deliver(deliver: Any, op: Op) -> None:
    try:
        deliver(op)
    except LabkeepError as error:
        if not is_about_content(error):
            raise
        for part in repaired(op, error):
            _deliver(deliver, part)
