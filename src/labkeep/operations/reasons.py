"""Why something is removed: what the rules of a project, workspace or organization ask for, whoever removes it."""

from __future__ import annotations

from collections.abc import Collection

from labkeep.core.access import Actor
from labkeep.core.errors import Invalid
from labkeep.operations import rules
from labkeep.storage.transaction import Tx

HEADERS = {"reason": "Labkeep-Reason", "ticket": "Labkeep-Ticket"}
"""What any request of any API may say in a header instead of in its body."""


def of(actor: Actor, reason: str, ticket: str) -> tuple[str, str]:
    """Reason and ticket as the request says them: in its body, or else in its headers."""
    return reason.strip() or actor.reason, ticket.strip() or actor.ticket


def require(tx: Tx, actor: Actor, project_ids: Collection[str], reason: str, ticket: str) -> None:
    """Invalid when one of these projects asks for a reason or a ticket that is not given."""
    given = dict(zip(HEADERS, of(actor, reason, ticket), strict=True))
    if all(given.values()):
        return
    for id, rule in sorted(rules.of_projects(tx, actor, sorted(project_ids)).items()):
        for name, needed in (("reason", rule.require_reason), ("ticket", rule.require_ticket)):
            if needed and not given[name]:
                raise Invalid(
                    f"whatever is removed here needs a {name} (project {id}): pass {name}, "
                    f"or send it in the header {HEADERS[name]}",
                    path=name,
                )
