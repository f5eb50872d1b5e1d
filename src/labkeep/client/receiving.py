"""For programs that receive webhooks: is this message really from the server?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from labkeep.core.entities import Json
from labkeep.core.errors import Invalid
from labkeep.core.webhooks import verify


def verify_webhook(secret: str, headers: Mapping[str, str], body: bytes) -> Json:
    """The message in ``body``: ``id``, ``type``, ``timestamp`` and ``data``.

    ``headers`` as they came, ``body`` byte by byte as it came. Unauthenticated when it was not signed with ``secret``, or
    more than five minutes ago. A message may come twice: its ``id`` tells.
    """
    verify(secret, headers, body, datetime.now(UTC))
    try:
        return msgspec.json.decode(body, type=Json)
    except msgspec.DecodeError as error:
        raise Invalid(f"the message is signed, but is no JSON object: {error}") from error
