"""The fields of a retention policy as options."""

from __future__ import annotations

from typing import Any

import click

from labkeep.cli.command import Decorator
from labkeep.core.errors import Invalid

ACTIONS = ("archive", "trash", "purge", "keep")
KINDS = ("run", "document", "artifact_version", "row")
STATUSES = ("draft", "queued", "running", "finished", "failed", "crashed", "stopped")


def _many(name: str, field: str, metavar: str, help: str) -> Decorator:
    return click.option(name, field, multiple=True, metavar=metavar, help=f"{help} Again for another.")


TERMS: tuple[Decorator, ...] = (
    click.option("--action", type=click.Choice(ACTIONS), help="What becomes of the rest.  [default: trash]"),
    click.option("--kind", "kinds", type=click.Choice(KINDS), multiple=True, help="What it is about.  [default: run]"),
    click.option("--older-than", metavar="DURATION", help="Only what is older: 12h, 30d, 2w, 1y."),
    click.option("--age-of", type=click.Choice(("created", "updated", "finished")), help="What ages count from."),
    click.option(
        "--state",
        "states",
        type=click.Choice(("active", "archived", "trashed")),
        multiple=True,
        help="Only what is in this state.",
    ),
    click.option("--status", type=click.Choice(STATUSES), multiple=True, help="Only runs with this status."),
    _many("--type", "types", "TYPE", "Only of this type."),
    _many("--tag", "tags", "TAG", "Only what has this tag."),
    click.option("--larger-than", metavar="SIZE", help="Only what holds more: 500MB, 10GB."),
    click.option("-q", "--query", "q", metavar="QUERY", help="Only what matches; see docs/query.md."),
    click.option("--trashed-for", metavar="DURATION", help="Of purge: what has been in the trash for longer."),
    click.option("--rows-of", type=click.Choice(("run", "document")), multiple=True, help="Of rows: of what."),
    click.option("--keep-last", type=click.IntRange(1), metavar="N", help="Keep the N newest of each group."),
    click.option("--keep-within", metavar="DURATION", help="Keep what was created within it."),
    click.option(
        "--keep-best", type=click.IntRange(1), metavar="N", help="Keep the N best of each group, by --metric."
    ),
    click.option(
        "--metric", metavar="FIELD", help="What --keep-best goes by: summary.acc, scores.exact, metrics.loss."
    ),
    click.option("--goal", type=click.Choice(("max", "min")), help="Which values are best.  [default: max]"),
    _many("--keep-tagged", "keep_tagged", "TAG", "Keep what has this tag."),
    click.option("--keep-bound/--no-keep-bound", default=None, help="Keep what something live needs.  [default: yes]"),
    click.option("--minimum-keep", metavar="DURATION", help="No policy takes anything before it is this old."),
    click.option(
        "--group-by",
        type=click.Choice(("project", "group", "type", "name")),
        multiple=True,
        help="In what --keep-last and --keep-best count.  [default: project]",
    ),
)


def body_of(terms: dict[str, Any]) -> dict[str, Any]:
    """The fields that were given, as a policy has them."""
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in terms.items()}
    body = {name: value for name, value in given.items() if value not in (None, [])}
    best = {field: body.pop(name) for name, field in BEST.items() if name in body}
    if best:
        if set(best) & {"metric", "goal"} and not {"count", "metric"} <= set(best):
            raise Invalid("--keep-best N and --metric FIELD go together", path="keep_best")
        if "metric" not in best:
            raise Invalid("--keep-best needs --metric FIELD: best by what?", path="keep_best")
        body["keep_best"] = best
    return body


BEST = {"keep_best": "count", "metric": "metric", "goal": "goal"}
"""Option → its field in ``keep_best``."""


def every_s(text: str | None) -> int | None:
    """Seconds of ``--every``."""
    from labkeep.core.quantities import parse_duration

    return None if text is None else int(parse_duration(text, "every").total_seconds())
