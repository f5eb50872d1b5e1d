"""Checking a stored audit trail: the chain from where it begins to its end, and what signed checkpoints say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from sqlalchemy import Connection, Select, select

from labkeep.core import audit
from labkeep.core.audit import Checkpoint, checkpoint_body
from labkeep.core.commands import AuditReport
from labkeep.core.receipts import PublicKey
from labkeep.storage import chain, signing
from labkeep.storage import tables as t

COLUMNS = [t.audit_checkpoints.c[name] for name in Checkpoint.__struct_fields__]

_SEQ = audit.CONTENT.index("seq")


def checkpoints(
    connection: Connection, organization_id: str, after: int = -1, until: int | None = None
) -> list[Checkpoint]:
    """Checkpoints of the events after one number up to another, in order."""
    c = t.audit_checkpoints.c
    query: Select[Any] = select(*COLUMNS).where(c.organization_id == organization_id, c.seq > after).order_by(c.seq)
    if until is not None:
        query = query.where(c.seq <= until)
    return [Checkpoint(**row) for row in connection.execute(query).mappings()]


def examine(connection: Connection, organization_id: str, keys: Mapping[str, PublicKey]) -> AuditReport:
    """Whether a chain holds and is what its checkpoints say; ``keys`` are the server's, by id. In bounded memory."""
    head = chain.head(connection, organization_id)
    points = checkpoints(connection, organization_id)
    hashes = {point.seq: point.hash for point in points}
    problems = _badly_signed(points, keys) + _contradicted(hashes, [head.pruned.seq], [head.pruned.hash])
    link, broken = head.pruned, None
    with closing(chain.walk(connection, connection.dialect.name, organization_id, head.pruned.seq)) as batches:
        for columns in batches:
            link, broken = audit.follow(link, columns)
            problems += _contradicted(hashes, columns[_SEQ], columns[-1])
            if broken is not None:
                break
    if broken is None and link != head.end:
        broken = link.seq + 1
    newest = points[-1].seq if points else 0
    if newest > head.end.seq:
        problems.append(f"a checkpoint was signed at event {newest}, and the chain ends at {head.end.seq}: it was cut")
    return AuditReport(
        events=head.end.seq,
        intact=broken is None and not problems,
        first_break=broken,
        head=head.end.hash,
        pruned=head.pruned.seq,
        checkpoints=len(points),
        checkpoint=newest,
        problems=problems,
    )


def _badly_signed(points: Sequence[Checkpoint], keys: Mapping[str, PublicKey]) -> list[str]:
    found = []
    for point in points:
        problem = signing.problem_with(keys, point.signing_key_id, point.signature, checkpoint_body(point))
        if problem:
            found.append(f"checkpoint {point.seq}: {problem}")
    return found


def _contradicted(hashes: Mapping[int, str], seqs: Sequence[int], found: Sequence[str]) -> list[str]:
    """What of a batch is not as a checkpoint says."""
    if not hashes.keys() & set(seqs):
        return []
    return [
        f"event {seq} is not what its checkpoint signed"
        for seq, hash in zip(seqs, found, strict=True)
        if hashes.get(seq, hash) != hash
    ]
