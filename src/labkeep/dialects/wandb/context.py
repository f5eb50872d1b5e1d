"""What a resolver gets: who asks, and how to run operations for them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, TypeVar

from labkeep.core.access import Actor
from labkeep.core.commands import Me, Nothing
from labkeep.core.errors import NotFound
from labkeep.core.ids import is_id
from labkeep.operations import Store, accounts

T = TypeVar("T")
C = TypeVar("C")


class Context:
    """One request. ``base`` is the dialect's absolute URL; ``found`` whether the workspace that it names is there.

    Blocks: for threads.
    """

    def __init__(self, store: Store, actor: Actor, base: str, *, found: bool = True) -> None:
        self.store, self.actor, self.base, self.found = store, actor, base, found

    def read(self, operation: Callable[[Any, Actor, C], T], command: C) -> T:
        """Run an operation that reads."""
        return self.store.database.read(operation, self.actor, command)

    def write(self, operation: Callable[[Any, Actor, C], T], command: C) -> T:
        """Run an operation that writes; it is on disk when this returns."""
        return self.store.database.write(operation, self.actor, command)

    @cached_property
    def me(self) -> Me:
        """Who asks, with the names of workspace and organization."""
        return self.read(accounts.me, Nothing())

    @property
    def entity(self) -> str:
        """The vendor's word for the workspace."""
        return self.me.workspace


def global_id(kind: str, *parts: str) -> str:
    """An id as the client expects it: base64 of the type and what names the object within it."""
    return base64.b64encode(":".join((kind, *parts)).encode()).decode()


def own_id(kind: str, text: str) -> str:
    """Our id in a global id of this kind; a plain id will do. NotFound for anything else."""
    if is_id(text):
        return text
    found = parts_of(kind, text)
    if len(found) != 1 or not is_id(found[0]):
        raise NotFound(f"{kind} {text[:80]!r} not found")
    return found[0]


def parts_of(kind: str, text: str, count: int = 1) -> list[str]:
    """What stands behind the kind in a global id, in ``count`` parts at most. NotFound when it is of another kind."""
    word, *parts = _parts(text, count) or [""]
    if word != kind:
        raise NotFound(f"{kind} {text[:80]!r} not found")
    return parts


def number_of(id: str) -> str:
    """A number that stands for an id where the client insists on one; it only ever comes back beside other ids."""
    return str(int(id[-8:], 16) & 0x7FFFFFFF)


ID_LENGTH = 8_192
"""Characters of the longest text that is looked at as an id: ids of files have paths in them."""


def ids_in(value: Any) -> Iterator[str]:
    """Our ids in the variables of a request, however deep."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from ids_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from ids_in(inner)
    elif isinstance(value, str) and len(value) <= ID_LENGTH:
        yield from filter(is_id, (value, *_parts(value)[1:2]))


def _parts(text: str, count: int = -1) -> list[str]:
    try:
        return base64.b64decode(text, validate=True).decode().split(":", count)
    except ValueError:  # not base64, or not a text
        return []
