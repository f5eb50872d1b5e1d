"""The audit chain as values: every field counts, and so does the order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from labkeep.core.audit import GENESIS, digest, first_break, seal
from labkeep.core.entities import AuditEvent

AT = datetime(2026, 3, 1, tzinfo=UTC)


def chain(count: int) -> list[AuditEvent]:
    events: list[AuditEvent] = []
    for number in range(1, count + 1):
        bare = AuditEvent(
            seq=number,
            at=AT + timedelta(microseconds=number),
            event="run.trashed",
            actor="ann",
            key_id="k",
            subject_id=f"s{number}",
            details={"b": 1, "a": {"y": 2, "x": 1}},
            previous=events[-1].hash if events else GENESIS,
            hash="",
        )
        events.append(seal(bare))
    return events


def test_a_chain_holds_from_its_beginning_and_from_any_link() -> None:
    events = chain(6)
    assert first_break([]) is None
    assert first_break(events) is None
    assert first_break(events[3:], events[2].hash, 3) is None
    assert first_break(iter(events)) is None


CHANGES: dict[str, Any] = {
    "at": AT,
    "event": "run.restored",
    "actor": "bob",
    "key_id": "x",
    "client": "x",
    "request_id": "x",
    "workspace_id": "x",
    "subject_id": "x",
    "deletion_id": "x",
    "count": 2,
    "reason": "x",
    "ticket": "x",
    "details": {},
    "previous": "1" * 64,
    "hash": "1" * 64,
    "seq": 9,
}


@pytest.mark.parametrize("field", AuditEvent.__struct_fields__)
def test_a_change_of_any_field_breaks_the_chain_there(field: str) -> None:
    events = chain(5)
    events[2] = msgspec.structs.replace(events[2], **{field: CHANGES[field]})
    assert first_break(events) == 3


@pytest.mark.parametrize("field", [field for field in AuditEvent.__struct_fields__ if field != "hash"])
def test_a_change_that_seals_itself_again_breaks_the_next_link(field: str) -> None:
    events = chain(5)
    events[2] = seal(msgspec.structs.replace(events[2], **{field: CHANGES[field]}))
    assert first_break(events) in (3, 4)


def test_links_that_are_missing_doubled_or_swapped_are_noticed() -> None:
    events = chain(5)
    assert first_break(events[1:]) == 1
    assert first_break(events[:2] + events[3:]) == 3
    assert first_break([*events[:3], events[2], *events[3:]]) == 4
    assert first_break([events[0], events[2], events[1], *events[3:]]) == 2


def test_the_digest_depends_on_content_and_not_on_the_order_of_keys() -> None:
    event = chain(1)[0]
    turned = msgspec.structs.replace(event, details={"a": {"x": 1, "y": 2}, "b": 1})
    assert digest(turned) == digest(event) == event.hash
    assert len(event.hash) == 64


def test_the_digest_is_what_it_always_was() -> None:
    """Chains that are stored must hold in later releases, too."""
    assert chain(2)[1].hash == "e49901ad1eabb53208430485470b77a72ba0218076074e30157a791340204cd7"
