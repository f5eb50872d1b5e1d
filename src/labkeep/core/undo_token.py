"""What takes an archive, an unarchive or a restore back, as text: the verb, its moment, and how many objects. Pure.

Whatever still bears that moment has not been touched since, so nothing else has to be remembered. What a job did bears
the moments of its batches, which the job notes; its id is the token.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from labkeep.core.commands import Outcome
from labkeep.core.errors import Invalid
from labkeep.core.lifecycle import LIVE, State, Verb

BACK: dict[Verb, tuple[Verb, tuple[State, ...]]] = {
    Verb.archive: (Verb.unarchive, (State.archived,)),
    Verb.unarchive: (Verb.archive, (State.active,)),
    Verb.restore: (Verb.trash, LIVE),
}
"""Verb -> what takes it back, and the states in which it leaves an object. A trash is taken back by its deletion."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LATEST = 2**57
"""Microseconds; some four thousand years."""


class Token(NamedTuple):
    """What was done, when, and to how many objects."""

    verb: Verb
    moment_us: int
    objects: int

    @property
    def moment(self) -> datetime:
        """When it was done."""
        return _EPOCH + self.moment_us * _MICROSECOND

    def encode(self) -> str:
        """As an answer shows it."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")


def decode(text: str) -> Token:
    """A token from text. Invalid for one that no answer gave."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        token = msgspec.json.decode(raw, type=Token)
    except (ValueError, binascii.Error, msgspec.DecodeError, RecursionError) as error:
        raise Invalid("the token is not one that an answer gave as undo", path="token") from error
    if token.verb not in BACK or not 0 <= token.moment_us < _LATEST or not 0 < token.objects < 2**53:
        raise Invalid("the token is not one that an answer gave as undo", path="token")
    return token


def with_token(outcome: Outcome, now: datetime) -> Outcome:
    """``outcome`` with what takes it back, where it changed something at this moment."""
    verb, count = Verb(outcome.verb), sum(outcome.counts.values())
    if verb not in BACK or not count or outcome.job_id is not None:
        return outcome
    return msgspec.structs.replace(outcome, undo=Token(verb, moment_us(now), count).encode())


def moment_us(moment: datetime) -> int:
    """``moment`` in microseconds, as a token holds it."""
    return (moment - _EPOCH) // _MICROSECOND
