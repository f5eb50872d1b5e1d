"""docs/lifecycle.md prints tables of the code; these tests hold it to them."""

from __future__ import annotations

from pathlib import Path

from labkeep.core.access import VERB_ROLES
from labkeep.core.lifecycle import STATES, legal_verbs

PAGE = (Path(__file__).parents[2] / "docs" / "lifecycle.md").read_text(encoding="utf-8")


def _rows(mark: str) -> list[str]:
    block = PAGE.partition(f"<!-- {mark} -->")[2].partition(f"<!-- /{mark} -->")[0]
    return block.strip().splitlines()[2:]


def test_the_page_has_the_states_of_the_code() -> None:
    wanted = [
        f"| {state} | {rule.seen} | {rule.readable} | {rule.writable} | {', '.join(legal_verbs(state))} |"
        for state, rule in STATES.items()
    ]
    assert _rows("states") == wanted


def test_the_page_has_the_permissions_of_the_code() -> None:
    assert _rows("permissions") == [f"| {verb} | {role} |" for verb, role in VERB_ROLES.items()]
