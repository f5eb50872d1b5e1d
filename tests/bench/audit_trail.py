"""Speed of checking an audit trail: ``python tests/bench/audit_trail.py [events]``. Prints; asserts nothing.

Beside it the limit that no program gets around on this machine: SHA-256 over as many texts of that length, one by one.
Processor time is printed, too: on a busy machine the clock on the wall says little.
"""

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from labkeep.client.audit_export import AuditFile, examine
from labkeep.core.access import Actor
from labkeep.core.audit import CONTENT, Content
from labkeep.core.commands import Nothing
from labkeep.core.commands_proof import ExportAudit
from labkeep.core.receipts import PublicKey
from labkeep.operations import audits, checkpoints, receipts
from labkeep.storage.database import Database
from labkeep.storage.opening import open_database
from labkeep.storage.transaction import Tx
from labkeep.testing.factories import make_actor

IN_ONE = 5_000


def note_many(tx: Tx, actor: Actor, first: int) -> None:
    """Events as purges and trash leave them: with ids, a reason, a ticket, and details on every third."""
    for number in range(first, first + IN_ONE):
        id = f"0199f0a1-7c3e-7d10-8a52-{number:012x}"
        details = {"commitment": f"{number:064x}"} if number % 3 == 0 else {}
        tx.audit(actor, "run.trashed", id, deletion_id=id, reason="drafts of the spring", ticket="OPS-1234", **details)


def fill(database: Database, actor: Actor, events: int) -> None:
    for first in range(0, events, IN_ONE):
        database.write(note_many, actor, first)
        database.write(checkpoints.sign_due, actor, None)
    database.write(checkpoints.sign, actor, Nothing())


def timed(name: str, count: int, work: Callable[[], object]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:<44}{count / wall:>12,.0f}/s {count / cpu:>12,.0f}/s of processor time")


def limit(database: Database, actor: Actor, events: int) -> None:
    page = database.read(audits.export, actor, ExportAudit(limit=1))
    event = page.entries[0].event
    assert event is not None
    text = msgspec.json.encode(Content(*[getattr(event, name) for name in CONTENT]))

    def work() -> None:
        for _ in range(events):
            hashlib.sha256(text).hexdigest()

    timed(f"SHA-256 of {len(text)} bytes, nothing else", events, work)


def export(database: Database, actor: Actor, path: Path) -> None:
    with AuditFile(path) as file:
        after: int | None = 0
        while after is not None:
            page = database.read(audits.export, actor, ExportAudit(after=after, limit=5000))
            file.write(page)
            after = page.next


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        database = open_database("", data=Path(folder))
        actor = make_actor(database)
        timed("events written", events, lambda: fill(database, actor, events))
        limit(database, actor, events)
        for _ in range(2):
            timed("audit verify, in the store", events, lambda: database.read(audits.verify, actor, Nothing()))
        report = database.read(audits.verify, actor, Nothing())
        print(f"  {report.events:,} events, {report.checkpoints} checkpoints, intact: {report.intact}")
        path = Path(folder) / "trail.jsonl"
        timed("export as JSON lines", events, lambda: export(database, actor, path))
        keys: list[PublicKey] = database.read(receipts.keys, actor, Nothing()).keys
        timed("audit verify, of the export", events, lambda: examine(path, keys))
        print(f"  {path.stat().st_size / events:,.0f} bytes an event, intact: {examine(path, keys).intact}")
        database.close()


if __name__ == "__main__":
    main()
