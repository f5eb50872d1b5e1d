"""The table of retention limits in the forms that people hand on."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from labkeep.cli.output import Column

if TYPE_CHECKING:
    from labkeep.cli.session import Session
    from labkeep.core.commands_policies import RetentionLimit

LIMITS = (
    Column("DATA", lambda x: x.category),
    Column("WHERE", lambda x: x.where),
    Column("KEPT FOR", lambda x: x.kept_for),
    Column("THEN", lambda x: x.then),
    Column("PURGED AFTER", lambda x: x.purged_after),
    Column("EXCEPT", lambda x: x.exceptions),
    Column("BY", lambda x: x.by),
    Column("ON", lambda x: ("on" if x.enabled else "off") if x.by else ""),
    Column("LAST RUN", lambda x: x.last_run_at),
)


def print_table(session: Session, lines: Sequence[RetentionLimit], form: str) -> None:
    """``lines`` as text, Markdown, CSV or JSON."""
    if form == "json":
        session.output.json({"items": list(lines), "next": None})
    elif form == "text":
        session.output.rows(LIMITS, lines)
    else:
        for line in _FORMS[form](lines):
            session.output.line(line)


def markdown(lines: Sequence[RetentionLimit]) -> list[str]:
    """A table whose cells hold no pipe and no line end of their own."""
    rows = [[column.title.capitalize() for column in LIMITS], ["---"] * len(LIMITS), *map(_cells, lines)]
    return [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows]


def _escaped(cell: str) -> str:
    return " ".join(cell.replace("\\", "\\\\").replace("|", "\\|").split())


def comma_separated(lines: Sequence[RetentionLimit]) -> list[str]:
    """One line for each limit, with a header. What a spreadsheet would take for a formula gets a quote before it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.title.lower().replace(" ", "_") for column in LIMITS])
    writer.writerows([_inert(" ".join(cell.split())) for cell in _cells(line)] for line in lines)
    return text.getvalue().splitlines()


def _inert(cell: str) -> str:
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell


def _cells(line: RetentionLimit) -> list[str]:
    return [_text(column.value(line)) for column in LIMITS]


def _text(value: Any) -> str:
    return "" if value is None else f"{value:%Y-%m-%d %H:%M}Z" if hasattr(value, "strftime") else str(value)


_FORMS: dict[str, Callable[[Sequence[RetentionLimit]], list[str]]] = {"md": markdown, "csv": comma_separated}
