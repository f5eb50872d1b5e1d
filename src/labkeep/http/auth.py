"""Who asks: from a header to an `Actor`, for every edge. Only the header's form differs between dialects."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import time
from collections import OrderedDict

from starlette.requests import Request

from labkeep.core.access import Actor
from labkeep.core.errors import Unauthenticated
from labkeep.http.wire import store_of
from labkeep.operations.accounts import Credentials, authenticate

REMEMBER_S = 5.0
"""How long an answer of `authenticate` is reused. A revoked key stops working after that at the latest."""

REMEMBER_KEYS = 4096


class KeyRing:
    """Remembers who a key is for a few seconds, by digest, so that a busy client does not cost a query each time."""

    def __init__(self) -> None:
        self._known: OrderedDict[Credentials, tuple[float, Actor]] = OrderedDict()

    async def identify(self, request: Request, secret: str, workspace: str = "") -> Actor:
        """The actor behind ``secret``, in ``workspace`` (id or name) when one is named. Unauthenticated otherwise."""
        if not secret:
            raise Unauthenticated("no API key: send it as `Authorization: Bearer <key>`")
        wanted = Credentials(digest=hashlib.sha256(secret.encode(errors="replace")).digest(), workspace=workspace)
        now = time.monotonic()
        known = self._known.get(wanted)
        if known is None or known[0] < now:
            database = store_of(request).database
            actor = await asyncio.wrap_future(database.query(authenticate, NOBODY, wanted))
            known = self._known[wanted] = (now + REMEMBER_S, actor)
            if len(self._known) > REMEMBER_KEYS:
                self._known.popitem(last=False)
        return known[1]

    def forget(self) -> None:
        """Drop all that is remembered: after keys or members changed in this process."""
        self._known.clear()


NOBODY = Actor(organization_id="", workspace_id="", user="", role="viewer", key_id="")  # type: ignore[arg-type]
"""The actor of the one operation that finds out who somebody is."""


def bearer(request: Request) -> str:
    """The secret in ``Authorization: Bearer …``, or the password of ``Basic …``; empty when there is none."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""
