"""Taking back what an answer's ``undo`` names."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.commands import Apply, Outcome, RestoreDeletion, Selection
from labkeep.core.commands_plans import Undo
from labkeep.core.errors import Stale
from labkeep.core.ids import is_id
from labkeep.core.lifecycle import State
from labkeep.core.undo_token import BACK, Token, decode
from labkeep.operations import deletions
from labkeep.storage import records
from labkeep.storage import tables as t
from labkeep.storage.transaction import Tx


def undo(tx: Tx, actor: Actor, command: Undo) -> Outcome:
    """Take something back. What was changed since stays as it is; Stale when it cannot be told apart any more."""
    if is_id(command.token):
        return deletions.restore(tx, actor, RestoreDeletion(id=command.token, reason=command.reason))
    token = decode(command.token)
    verb, states = BACK[token.verb]
    ids = _untouched(tx, actor, token, states)
    if not ids:
        return Outcome(verb=str(verb), counts={}, already=token.objects)
    asked = Apply(verb=str(verb), selection=Selection(ids=ids), reason=command.reason, background=False)
    return deletions.apply(tx, actor, asked)


def _untouched(tx: Tx, actor: Actor, token: Token, states: tuple[State, ...]) -> list[str]:
    c = t.items.c
    mine: list[Any] = [*records.scope(actor), c.state.in_(states), c.updated_at == token.moment]
    found = [row[0] for row in tx.execute(select(c.id).where(*mine).limit(token.objects + 1))]
    if len(found) > token.objects:
        raise Stale("other objects were changed at the very same moment: name what shall go back by its ids")
    return found
