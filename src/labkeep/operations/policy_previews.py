"""Previews of retention policies: who would go, who stays, and why. Nothing happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple

from labkeep.core import terms as core_terms
from labkeep.core.access import Actor, require
from labkeep.core.commands_policies import PolicyDecision, PolicyPreview, PreviewDraft, PreviewPolicy, Why
from labkeep.core.errors import Invalid
from labkeep.core.ids import is_id
from labkeep.core.retention import Decision, Subject, describe
from labkeep.core.terms import Action
from labkeep.operations import row_retention
from labkeep.operations.projects import resolve
from labkeep.operations.retention import Look, decide, survey
from labkeep.operations.row_retention import RowPosition
from labkeep.storage import policies as store
from labkeep.storage import retention as inventory
from labkeep.storage.pages import decode_cursor, encode_cursor
from labkeep.storage.retention import Position
from labkeep.storage.transaction import Tx


class _Shown(NamedTuple):
    """How much of a preview is asked for."""

    show: str
    limit: int
    start: RowPosition | None
    runs_at: datetime | None = None


def preview(tx: Tx, actor: Actor, command: PreviewPolicy) -> PolicyPreview:
    """Who would go by a policy in this workspace, and why; nothing happens. The counts come with the first page."""
    require(actor, "policy.read")
    policy = store.get(tx, actor, command.id)
    look = Look(policy.name, policy.id, store.terms_of(policy.body, tx.now), policy.project_id, command.at or tx.now)
    return _preview(tx, actor, look, _shown(command, policy.next_run_at))


def preview_draft(tx: Tx, actor: Actor, command: PreviewDraft) -> PolicyPreview:
    """Who would go by a policy that is not stored."""
    require(actor, "policy.read")
    project_id = None if command.project is None else resolve(tx, actor, command.project).id
    look = Look("draft", None, core_terms.parse(command.body, tx.now), project_id, command.at or tx.now)
    return _preview(tx, actor, look, _shown(command, None))


def _shown(command: PreviewPolicy | PreviewDraft, runs_at: datetime | None) -> _Shown:
    start = None
    if command.cursor is not None:
        start = RowPosition(*decode_cursor(command.cursor, tuple[int, str, str]))
        if start.place < 0 or not is_id(start.owner_id):
            raise Invalid("the cursor is not one that this list gave", path="cursor")
    return _Shown(command.show, command.limit, start, runs_at)


def _preview(tx: Tx, actor: Actor, look: Look, shown: _Shown) -> PolicyPreview:
    for kind in row_retention.owner_kinds(look.terms):
        require(actor, f"{kind}.read")
    tally, items, last, cursor = _Tally(), list[PolicyDecision](), RowPosition(0, "", ""), None

    def explain() -> bool:
        return len(items) < shown.limit

    if look.terms.about_rows:
        found = row_retention.decided(tx, actor, look, shown.start)
    else:
        found = _decided(tx, actor, look, shown.start, explain)
    for subject, decision, at in found:
        tally.add(subject, decision)
        if not _is_shown(decision, shown.show):
            continue
        if len(items) < shown.limit:
            items.append(_as_item(subject, decision))
            last = at
        elif cursor is None:
            cursor = encode_cursor(*last)
            if shown.start is not None:  # the first page counts on, to the end
                break
    return tally.preview(look, shown, items, cursor)


def _decided(
    tx: Tx, actor: Actor, look: Look, start: RowPosition | None, explain: Callable[[], bool]
) -> Iterator[tuple[Subject, Decision, RowPosition]]:
    known = survey(tx, actor, look)
    begin = None if start is None else Position(start.place, start.owner_id)
    for batch, end in inventory.batches(tx, actor, known.view.reach, begin):
        decisions = decide(tx, actor, known, batch, looking=True, explain=explain())
        for subject, decision in zip(batch, decisions, strict=True):
            yield subject, decision, RowPosition(end.place, subject.id, "")


def _is_shown(decision: Decision, show: str) -> bool:
    return show == "all" or (decision.action == Action.keep) == (show == "kept")


def _as_item(subject: Subject, decision: Decision) -> PolicyDecision:
    return PolicyDecision(
        id=subject.id,
        kind=str(subject.kind),
        type=subject.type,
        name=subject.name,
        project_id=subject.project_id,
        bytes=subject.bytes,
        created_at=subject.created_at,
        action=str(decision.action),
        reasons=[Why(reason.rule, reason.text) for reason in decision.reasons],
    )


class _Tally:
    """The counts of a preview."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self.bytes = 0

    def add(self, subject: Subject, decision: Decision) -> None:
        self.counts.setdefault(str(decision.action), Counter())[str(subject.kind)] += 1
        if decision.action != Action.keep:
            self.bytes += subject.bytes

    def preview(self, look: Look, shown: _Shown, items: list[PolicyDecision], cursor: str | None) -> PolicyPreview:
        first = shown.start is None
        everything = first and bool(self.counts) and str(Action.keep) not in self.counts
        warning = "the policy takes everything that it is about: no rule keeps anything"
        return PolicyPreview(
            sentence=describe(look.terms),
            at=look.at,
            runs_at=shown.runs_at,
            items=items,
            next=cursor,
            considered=sum(count.total() for count in self.counts.values()) if first else 0,
            counts={action: dict(count) for action, count in sorted(self.counts.items())} if first else {},
            bytes=self.bytes if first else 0,
            takes_everything=everything,
            warnings=[warning] if everything else [],
        )
