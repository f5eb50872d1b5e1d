"""docs/lifecycle.md prints tables of the code; these tests hold it to them."""

from __future__ import annotations

from pathlib import Path

from labkeep.core.access import VERB_ROLES
from labkeep.core.deletion import GUARDS, Origin
from labkeep.core.lifecycle import STATES, legal_verbs
from labkeep.core.rules import Rules

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "lifecycle.md").read_text(encoding="utf-8")
PROTECTION = (DOCS / "protection.md").read_text(encoding="utf-8")


def _block(mark: str, page: str = PAGE) -> list[str]:
    return page.partition(f"<!-- {mark} -->")[2].partition(f"<!-- /{mark} -->")[0].strip().splitlines()


def _rows(mark: str, page: str = PAGE) -> list[str]:
    return _block(mark, page)[2:]


def test_the_page_has_the_states_of_the_code() -> None:
    wanted = [
        f"| {state} | {rule.seen} | {rule.readable} | {rule.writable} | {', '.join(legal_verbs(state))} |"
        for state, rule in STATES.items()
    ]
    assert _rows("states") == wanted


def test_the_page_has_the_permissions_of_the_code() -> None:
    assert _rows("permissions") == [f"| {verb} | {role} |" for verb, role in VERB_ROLES.items()]


def test_the_page_has_the_guards_of_the_code_in_their_order() -> None:
    wanted = [
        f"| {guard.meaning} | {', '.join(guard.verbs)} | {', '.join(guard.stops)} "
        f"| {f'`{guard.override}`' if guard.override else 'none'} |"
        for guard in GUARDS
    ]
    assert _rows("guards") == wanted
    assert [list(Origin).index(guard.origin) for guard in GUARDS] == sorted(
        list(Origin).index(g.origin) for g in GUARDS
    )


def test_the_page_has_the_precedence_of_the_code() -> None:
    assert _block("precedence", PROTECTION) == [" > ".join(origin.replace("_", " ") for origin in Origin)]


def test_the_page_has_the_rules_of_the_code() -> None:
    named = [row.split("`")[1] for row in _rows("rules", PROTECTION)]
    assert named == list(Rules.__struct_fields__)
