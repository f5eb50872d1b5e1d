"""Taking back what an answer's ``undo`` names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select

from labkeep.core.access import Actor
from labkeep.core.commands import Apply, Outcome, RestoreDeletion, Selection
from labkeep.core.commands_plans import Undo
from labkeep.core.entities import Job
from labkeep.core.errors import Illegal, NotFound, Stale
from labkeep.core.ids import is_id
from labkeep.core.lifecycle import State, Verb
from labkeep.core.undo_token import BACK, Token, decode
from labkeep.operations import deletions, jobs
from labkeep.operations.handovers import TASK
from labkeep.storage import records
from labkeep.storage import tables as t
from labkeep.storage.jobs import OPEN
from labkeep.storage.transaction import Tx

AT_ONCE = 50_000
"""Objects that one verb takes back: more than that become several jobs."""

MOMENTS = 500
"""Batches of a job whose objects are looked for at once."""


def undo(tx: Tx, actor: Actor, command: Undo) -> Outcome:
    """Take something back. What was changed since stays as it is; Stale when it cannot be told apart any more."""
    if not is_id(command.token):
        return _take_back(tx, actor, [decode(command.token)], command.reason)
    job = _job(tx, actor, command.token)
    deletion_id = command.token if job is None else job.result.get("deletion_id")
    if job is None or job.result["verb"] == Verb.trash:
        return deletions.restore(tx, actor, RestoreDeletion(id=str(deletion_id), reason=command.reason))
    verb = Verb(job.result["verb"])
    if verb not in BACK:
        raise Illegal(f"job {job.id} did something that cannot be taken back: {verb}")
    if job.state in OPEN:
        raise Illegal(f"job {job.id} is still at it: wait for it, or cancel it first", job_id=job.id)
    done = [Token(verb, moment_us, count) for moment_us, count in job.result.get("moments", ())]
    if not done:
        return Outcome(verb=str(BACK[verb][0]), counts={})
    return _take_back(tx, actor, done, command.reason)


def _job(tx: Tx, actor: Actor, id: str) -> Job | None:
    """The job that did a large verb; None when the id is something else's."""
    try:
        found = jobs.find(tx, actor, id)
    except NotFound:
        return None
    return found if found.task == TASK and "verb" in found.result else None


def _take_back(tx: Tx, actor: Actor, done: Sequence[Token], reason: str) -> Outcome:
    verb, states = BACK[done[0].verb]
    some = (done[start : start + MOMENTS] for start in range(0, len(done), MOMENTS))
    ids = [id for part in some for id in _untouched(tx, actor, part, states)]
    if not ids:
        return Outcome(verb=str(verb), counts={}, already=sum(token.objects for token in done))
    outcomes = []
    for start in range(0, len(ids), AT_ONCE):
        chosen = Selection(ids=ids[start : start + AT_ONCE])
        asked = Apply(verb=str(verb), selection=chosen, reason=reason, background=False if len(done) == 1 else "auto")
        outcomes.append(deletions.apply(tx, actor, asked))
    return outcomes[0] if len(outcomes) == 1 else deletions.together(verb, outcomes)


def _untouched(tx: Tx, actor: Actor, done: Sequence[Token], states: tuple[State, ...]) -> list[str]:
    """The ids of what was done at these moments, and bears them still."""
    c = t.items.c
    expected: Counter[datetime] = Counter()
    for token in done:
        expected[token.moment] += token.objects
    mine: list[Any] = [*records.scope(actor), c.state.in_(states), c.updated_at.in_([*expected])]
    rows = tx.execute(select(c.id, c.updated_at).where(*mine).limit(expected.total() + 1)).all()
    if Counter(moment for _, moment in rows) - expected:
        raise Stale("other objects were changed at the very same moment: name what shall go back by its ids")
    return [id for id, _ in rows]
