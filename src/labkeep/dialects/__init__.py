"""Foreign APIs over our operations. A dialect is a value: what it is called, what it answers, and what it can do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from labkeep.core.access import Actor
from labkeep.core.errors import LabkeepError
from labkeep.http.app import edge
from labkeep.http.auth import KeyRing
from labkeep.http.errors import Encode
from labkeep.operations import Store


class Covered(msgspec.Struct, frozen=True):
    """One operation of the vendor's surface, and whether it works here. ``note`` says what is different."""

    group: str
    method: str
    path: str
    supported: bool
    note: str = ""


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """One foreign API."""

    name: str
    """Lower case: in the prefix, in `Item.dialect`, in ``labkeep connect``."""
    title: str
    """The vendor's spelling."""
    prefix: str
    routes: Sequence[BaseRoute]
    encode_error: Encode
    """Any of our errors in the vendor's envelope; a test asserts that it knows every class."""
    identify: Callable[[KeyRing, Request], Awaitable[Actor]]
    """Who asks, from the header that the vendor's client sends."""
    environment: Callable[[str, str], dict[str, str]]
    """The variables that point the vendor's clients here, from the server's URL and a key."""
    surface: Sequence[Covered]
    """Every operation that the vendor has, for the coverage table."""
    errors: Sequence[type[LabkeepError]]
    """The classes that the envelope has a row for."""
    public: Sequence[str] = ()
    """Beginnings of paths that need no key."""

    def application(self, store: Store, keyring: KeyRing) -> ASGIApp:
        """The dialect as an application to mount under its prefix."""
        return edge(self.name, self.routes, store, keyring, self.identify, self.encode_error, self.public)
