"""Webhooks: who is told about what happens."""

from __future__ import annotations

from typing import Any

import click

from labkeep.cli.command import Group, pass_session
from labkeep.cli.options import listed, window
from labkeep.cli.output import Column
from labkeep.cli.session import Session

ID = "0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77"


@click.group(cls=Group)
def webhook() -> None:
    """Webhooks: messages to a URL of yours about what is trashed, restored, purged, held and all else."""


WEBHOOKS = (
    Column("ENABLED", lambda w: "yes" if w.enabled else "no"),
    Column("EVENTS", lambda w: ", ".join(w.events) or "all"),
    Column("URL", lambda w: w.url),
    Column("BY", lambda w: w.created_by),
    Column("SINCE", lambda w: w.created_at),
    Column("ID", lambda w: w.id, whole=True),
)

DELIVERIES = (
    Column("STATE", lambda d: d.state),
    Column("EVENT", lambda d: d.event),
    Column("NUMBER", lambda d: d.seq),
    Column("TRIES", lambda d: d.attempts),
    Column("ANSWER", lambda d: d.status or d.error or ""),
    Column("NOTED", lambda d: d.created_at),
    Column("TOLD", lambda d: d.delivered_at or ""),
    Column("ID", lambda d: d.id, whole=True),
)


def _facts(found: Any) -> list[tuple[str, Any]]:
    return [
        ("id", found.id),
        ("url", found.url),
        ("events", ", ".join(found.events) or "all"),
        ("enabled", "yes" if found.enabled else "no"),
        ("made by", found.created_by),
        ("made", found.created_at),
        ("looked at events up to", found.seq),
    ]


_EVENTS = click.option(
    "--event", "events", multiple=True, metavar="PATTERN", help="run.trashed, run.*, *.purged …; may be repeated."
)


@webhook.command(
    "create",
    examples=(
        "labkeep webhook create https://example.com/labkeep",
        "labkeep webhook create https://example.com/labkeep --event 'run.*' --event '*.purged'",
    ),
)
@click.argument("url")
@_EVENTS
@pass_session
def create(session: Session, url: str, events: tuple[str, ...]) -> None:
    """Have URL told of what happens from now on: of all events, or of those named by --event.

    Prints the id and the secret, which is shown this once: with it the receiver verifies that a message is genuine.
    """
    made = session.client.webhooks.create(url, events=events or None)
    if session.json:
        session.output.json(made)
        return
    session.output.facts(made.webhook, [*_facts(made.webhook), ("secret (shown once)", made.secret)])


@webhook.command("ls", examples=("labkeep webhook ls", "labkeep webhook ls --json | jq -r '.[].url'"))
@listed
@pass_session
def list_webhooks(session: Session) -> None:
    """List webhooks, newest first.

    Columns: enabled, events, URL, by, since, id.
    """
    session.output.list(session.client.webhooks.list, WEBHOOKS, window())


@webhook.command("show", examples=(f"labkeep webhook show {ID}", f"labkeep webhook show {ID} --json"))
@click.argument("id")
@pass_session
def show(session: Session, id: str) -> None:
    """Show the webhook ID, without its secret."""
    found = session.client.webhooks.get(id)
    session.output.facts(found, _facts(found))


@webhook.command(
    "edit",
    examples=(
        f"labkeep webhook edit {ID} --disable",
        f"labkeep webhook edit {ID} --enable --event 'hold.*'",
        f"labkeep webhook edit {ID} --url https://example.com/new",
    ),
)
@click.argument("id")
@click.option("--url", metavar="URL", help="Where to send messages from now on.")
@_EVENTS
@click.option("--enable/--disable", "enabled", default=None, help="A disabled one is told later what it missed.")
@pass_session
def edit(session: Session, id: str, url: str | None, events: tuple[str, ...], enabled: bool | None) -> None:
    """Change the webhook ID."""
    if url is None and not events and enabled is None:
        raise click.UsageError("Say what to change: --url, --event, --enable or --disable")
    found = session.client.webhooks.update(id, url=url, events=events or None, enabled=enabled)
    session.output.facts(found, _facts(found))


@webhook.command("remove", examples=(f"labkeep webhook remove {ID}", f"labkeep webhook remove {ID} --dry-run"))
@click.argument("id")
@click.option("--dry-run", is_flag=True, help="Show what would be forgotten, and do nothing.")
@pass_session
def remove(session: Session, id: str, dry_run: bool) -> None:
    """Forget the webhook ID and what it was told or still waits for."""
    found = session.client.webhooks.get(id) if dry_run else session.client.webhooks.remove(id)
    session.output.answer(found, f"{'would forget' if dry_run else 'forgot'} {found.id} ({found.url})")


@webhook.command("secret", examples=(f"labkeep webhook secret {ID}", f"labkeep webhook secret {ID} --json"))
@click.argument("id")
@pass_session
def rotate_secret(session: Session, id: str) -> None:
    """Give the webhook ID a new secret, and print it: it is shown this once. The old one signs nothing any more."""
    made = session.client.webhooks.rotate_secret(id)
    session.output.answer(made, made.secret)


@webhook.command("test", examples=(f"labkeep webhook test {ID}", f"labkeep webhook test {ID} --json"))
@click.argument("id")
@pass_session
def test(session: Session, id: str) -> None:
    """Have the webhook ID told of the event webhook.tested; see with `deliveries` how it answered."""
    found = session.client.webhooks.test(id)
    session.output.answer(found, f"{found.url} is told of webhook.tested")


@webhook.command(
    "deliveries", examples=(f"labkeep webhook deliveries {ID}", f"labkeep webhook deliveries {ID} --state failed")
)
@click.argument("id")
@click.option("--state", type=click.Choice(("waiting", "delivered", "failed")), help="Only in this state.")
@listed
@pass_session
def list_deliveries(session: Session, id: str, state: str | None) -> None:
    """List what the webhook ID was told and what waits, newest first.

    Columns: state, event, number in the audit trail, tries, answer, noted, told, id.
    """

    def fetch(**page: Any) -> Any:
        return session.client.webhooks.deliveries(id, state=state, **page)

    session.output.list(fetch, DELIVERIES, window())


@webhook.command(
    "replay",
    examples=(
        f"labkeep webhook replay {ID} --delivery 0199f0a2-1111-7d10-8a52-6f1e2b9c4d77",
        f"labkeep webhook replay {ID} --since 1200",
    ),
)
@click.argument("id")
@click.option("--delivery", metavar="ID", help="Tell this one again.")
@click.option("--since", type=click.IntRange(0), metavar="NUMBER", help="Tell all from this audit event on again.")
@pass_session
def replay(session: Session, id: str, delivery: str | None, since: int | None) -> None:
    """Tell the webhook ID again what it was told, or failed to hear."""
    if (delivery is None) == (since is None):
        raise click.UsageError("Say what to tell again: either --delivery or --since")
    done = session.client.webhooks.replay(id, delivery_id=delivery, since=since)
    session.output.answer(done, f"will tell it again: labkeep webhook deliveries {id}")
