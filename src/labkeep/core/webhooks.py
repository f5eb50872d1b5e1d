"""Webhooks: which events somebody is told of, how a message is signed, when it is tried again. Pure.

Messages are signed as Standard Webhooks 1.0.0 describes it (standardwebhooks.com): the header ``webhook-signature`` is
``v1,`` and the base64 of HMAC-SHA-256 over ``<webhook-id>.<webhook-timestamp>.<body>``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from labkeep.core.entities import AuditEvent, Entity, Json
from labkeep.core.errors import Invalid, Unauthenticated

SECRET_BYTES = 32
SECRET_PREFIX = "whsec_"  # noqa: S105 - the public prefix of secrets, not a secret

TOLERANCE_S = 300
"""Seconds that a message may be old, or ahead, for its signature to be believed."""

DELAYS_S = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 43_200, 86_400)
"""Seconds before the second, third, … try: eleven tries more, over two and a half days."""

_PATTERN = re.compile(r"(\*|[a-z_]+)\.(\*|[a-z_]+)")


class Webhook(Entity, frozen=True, kw_only=True):
    """Who is told about what happens in a workspace. The secret is shown once, when it is made."""

    workspace_id: str
    url: str
    events: tuple[str, ...] = ()
    """``run.trashed``, ``run.*``, ``*.purged``; empty for all."""
    enabled: bool = True
    created_by: str = ""
    seq: int = 0
    """Number of the newest audit event that was looked at."""


class Delivery(Entity, frozen=True, kw_only=True):
    """One message to one webhook. Those about the same subject are told in their order."""

    webhook_id: str
    seq: int
    subject_id: str = ""
    event: str
    state: str = "waiting"
    """waiting, delivered or failed."""
    attempts: int = 0
    status: int = 0
    """The last HTTP status; 0 when there was no answer."""
    error: str = ""
    run_at: datetime
    delivered_at: datetime | None = None


def check_patterns(patterns: Iterable[str]) -> None:
    """Invalid for what is neither a name of an event nor a pattern for some."""
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern):
            raise Invalid(
                f"{pattern[:80]!r} is not an event: use <kind>.<participle> such as run.trashed, run.* or *.purged",
                path="events",
            )


def wants(patterns: Iterable[str], event: str) -> bool:
    """Whether ``event`` is one of those that ``patterns`` name; without any, all are."""
    kind, _, verb = event.partition(".")
    pairs = [pattern.partition(".") for pattern in patterns]
    return not pairs or any(want in ("*", kind) and did in ("*", verb) for want, _, did in pairs)


def message(id: str, event: AuditEvent) -> Json:
    """What is told: the event as it stands in the audit trail. Ids, counts and digests, no content."""
    return {
        "id": id,
        "type": event.event,
        "timestamp": event.at,
        "data": {
            "seq": event.seq,
            "workspace_id": event.workspace_id,
            "subject_id": event.subject_id,
            "deletion_id": event.deletion_id,
            "count": event.count,
            "actor": event.actor,
            "client": event.client,
            "request_id": event.request_id,
            "reason": event.reason,
            "ticket": event.ticket,
            "details": event.details,
            "hash": event.hash,
        },
    }


def next_try(attempts: int, now: datetime) -> datetime | None:
    """When to try again after ``attempts`` tries; None when that is enough."""
    return now + timedelta(seconds=DELAYS_S[attempts - 1]) if attempts <= len(DELAYS_S) else None


# --- signatures ---------------------------------------------------------------------------------------------------------


def show_secret(secret: bytes) -> str:
    """A secret as people copy it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def read_secret(text: str) -> bytes:
    """The bytes of a secret. Invalid for what is none."""
    try:
        return base64.b64decode(text.strip().removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("this is no webhook secret: it starts with whsec_ and goes on in base64", path="secret") from None


def sign(secret: bytes, id: str, sent_at: int, body: bytes) -> str:
    """The signature header of one message; ``sent_at`` in seconds since the epoch."""
    code = hmac.new(secret, f"{id}.{sent_at}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(code).decode()}"


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
    """For receivers: Unauthenticated unless ``body`` was signed with ``secret`` within `TOLERANCE_S` of ``now``.

    ``headers`` by name, in any case; ``body`` exactly as it was received.
    """
    found = {name.lower(): value for name, value in headers.items()}
    id, sent_at = found.get("webhook-id", ""), found.get("webhook-timestamp", "")
    if not id or not sent_at.isdecimal() or len(sent_at) > 12:
        raise Unauthenticated("the message has no webhook-id and webhook-timestamp")
    if abs(now.timestamp() - int(sent_at)) > TOLERANCE_S:
        raise Unauthenticated(f"the message was signed more than {TOLERANCE_S} s away from now: it may be a repetition")
    wanted = sign(read_secret(secret), id, int(sent_at), body).encode()
    given = found.get("webhook-signature", "").encode().split()
    if not any(hmac.compare_digest(wanted, one) for one in given):
        raise Unauthenticated("the signature is not that of this message under this secret")
