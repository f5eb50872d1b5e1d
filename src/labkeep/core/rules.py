"""Rules of the lifecycle that an organization, a workspace or a project sets for what is inside. Pure.

The settings of the three are combined from the outside in. What protects only ever grows stricter on the way: a
project cannot lift what its organization asks for.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated

import msgspec
from msgspec import Meta

from labkeep.core.entities import Json
from labkeep.core.errors import Invalid


class Rules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one level asks for. A field that is left out says nothing."""

    grace_days: Annotated[int, Meta(ge=0, le=3650)] | None = None
    """Days that something stays restorable in the trash. The innermost level that says something counts."""
    minimum_keep_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    """Days after it was made during which nothing may be purged, whoever asks."""
    require_reason: bool = False
    """Whether a destructive verb needs a reason."""
    require_ticket: bool = False
    """Whether a destructive verb needs a ticket."""
    two_person_purge: bool = False
    """Whether a second person must agree before anything is purged."""
    encrypt: bool = False
    """Whether contents are encrypted from birth, so that purging destroys their key."""
    subject_fields: Annotated[tuple[str, ...], Meta(max_length=20)] = ()
    """Fields of rows that name a person: ``metadata.user_id``."""


NAMES = frozenset(Rules.__struct_fields__)
"""The settings that are rules; others mean nothing to the lifecycle."""


def check(settings: Json) -> None:
    """Invalid, naming the field, when one of the rules among ``settings`` makes no sense."""
    try:
        msgspec.convert(_rules_among(settings), Rules)
    except msgspec.ValidationError as error:
        raise Invalid(f"settings: {error}", path="settings") from None


def read(settings: Json) -> Rules:
    """The rules among stored settings. One that makes no sense says nothing: it must not stand in anybody's way."""
    found = {}
    for name, value in _rules_among(settings).items():
        with suppress(msgspec.ValidationError):
            found[name] = getattr(msgspec.convert({name: value}, Rules), name)
    return Rules(**found)


def _rules_among(settings: Json) -> Json:
    return {name: settings[name] for name in Rules.__struct_fields__ if name in settings}


def combine(levels: Iterable[Rules]) -> Rules:
    """What holds inside of ``levels``, the outermost first."""
    found = Rules()
    for level in levels:
        found = Rules(
            grace_days=found.grace_days if level.grace_days is None else level.grace_days,
            minimum_keep_days=max(found.minimum_keep_days, level.minimum_keep_days),
            require_reason=found.require_reason or level.require_reason,
            require_ticket=found.require_ticket or level.require_ticket,
            two_person_purge=found.two_person_purge or level.two_person_purge,
            encrypt=found.encrypt or level.encrypt,
            subject_fields=tuple(dict.fromkeys((*found.subject_fields, *level.subject_fields))),
        )
    return found
