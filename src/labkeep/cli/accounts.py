"""Who is who: logging in, workspaces, keys and members."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING

import click

from labkeep.cli.command import Command, Group, pass_session
from labkeep.cli.options import Moment, listed, window
from labkeep.cli.output import Column
from labkeep.cli.session import Session
from labkeep.core.errors import Unauthenticated

if TYPE_CHECKING:
    from labkeep.core.commands import Me

ROLES = ("viewer", "editor", "maintainer", "owner")


@click.command(
    cls=Command,
    examples=(
        "labkeep login",
        "labkeep login --url https://labkeep.example.com",
        "labkeep login --url https://labkeep.example.com < key.txt",
    ),
)
@click.option("--url", metavar="URL", help="The server.  [default: $LABKEEP_URL, or http://127.0.0.1:8080]")
@click.option("--key", metavar="KEY", help="The key; asked for when left out, so that no shell remembers it.")
@pass_session
def login(session: Session, url: str | None, key: str | None) -> None:
    """Keep a server and a key for later commands and scripts.

    The key is tried first. It is written to labkeep/config.toml in your configuration folder, which only you may read.
    """
    from labkeep.client import target
    from labkeep.client._sync.client import Labkeep

    chosen = url or session.url
    secret = (key or _asked(session)).strip()
    if not secret:
        raise Unauthenticated("no key was given")
    with Labkeep(api_key=secret, base_url=_address(chosen)) as client:
        me, address = client.me(), client.base_url
    file = target.login(secret, address)
    session.output.answer(me, f"Logged in to {address} as {me.user} ({me.role} in {me.workspace}); kept in {file}")


def _asked(session: Session) -> str:
    if not session.interactive:
        return sys.stdin.readline()
    answer: str = click.prompt("API key", hide_input=True, err=True)
    return answer


def _address(chosen: str | None) -> str:
    """The server to log in to: never the one of an earlier login by accident of its key."""
    import os

    from labkeep.client.target import DEFAULT_URL

    return chosen or os.environ.get("LABKEEP_URL") or DEFAULT_URL


@click.command(cls=Command, examples=("labkeep whoami", "labkeep whoami --json"))
@pass_session
def whoami(session: Session) -> None:
    """Show which server, user, role and workspace the key stands for."""
    me = session.client.me()
    session.output.facts(me, [("server", session.client.base_url), *_identity(me)])


def _identity(me: Me) -> list[tuple[str, object]]:
    return [
        ("user", f"{me.user} (agent)" if me.agent else me.user),
        ("role", me.role),
        ("workspace", me.workspace),
        ("organization", me.organization),
        ("scopes", me.scopes),
        ("key", me.key_id),
    ]


@click.group(cls=Group)
def workspace() -> None:
    """Rooms of the organization, each with its own members and projects."""


@workspace.command(
    "create",
    examples=("labkeep workspace create research", "labkeep workspace create main --organization partners"),
)
@click.argument("name")
@click.option("--organization", metavar="ORG", help="Another organization, which is made when missing.")
@pass_session
def create_workspace(session: Session, name: str, organization: str | None) -> None:
    """Make the workspace NAME, with you as its owner; prints its id.

    Another organization than your own needs the first administrator's key.
    """
    made = session.client.workspaces.create(name, organization=organization)
    session.output.answer(made, made.id)


WORKSPACES = (
    Column("NAME", lambda w: w.name),
    Column("CREATED", lambda w: w.created_at),
    Column("ID", lambda w: w.id, whole=True),
)


@workspace.command("ls", examples=("labkeep workspace ls", "labkeep workspace ls --json"))
@listed
@pass_session
def list_workspaces(session: Session) -> None:
    """List the workspaces that you are a member of.

    Columns: name, created, id.
    """
    session.output.list(session.client.workspaces.list, WORKSPACES, window())


@click.group(cls=Group)
def key() -> None:
    """API keys. The secret is shown once, when a key is made."""


@key.command(
    "create",
    examples=(
        "labkeep key create --workspace research --user ada --role editor",
        "labkeep key create --user cleanup-bot --role maintainer --agent --expires +90d",
    ),
)
@click.option("--workspace", metavar="NAME", help="Workspace, by name or id.  [default: the one of your key]")
@click.option("--user", required=True, metavar="USER", help="Who will use it; becomes a member of the workspace.")
@click.option("--role", type=click.Choice(ROLES), default="editor", show_default=True, help="At least this role.")
@click.option("--organization", metavar="ORG", help="The organization of the workspace, when it is not your own.")
@click.option("--agent", is_flag=True, help="For a program that acts by itself: it may trash, but never purge.")
@click.option("--name", default="", metavar="TEXT", help="What it is for.")
@click.option("--daily-trash", type=click.IntRange(0), metavar="N", help="Objects that an agent may trash in 24 hours.")
@click.option("--expires", type=Moment(ahead=True), metavar="TIME", help="When it stops working: +90d, or 2027-01-01.")
@pass_session
def create_key(
    session: Session,
    workspace: str | None,
    user: str,
    role: str,
    organization: str | None,
    agent: bool,
    name: str,
    expires: datetime | None,
    daily_trash: int | None,
) -> None:
    """Make a key for USER; prints the key, and nothing else.

    It cannot be shown again: the server keeps only its hash.
    """
    made = session.client.keys.create(
        user,
        role=role,
        workspace=workspace,
        organization=organization,
        name=name,
        agent=agent,
        expires_at=expires,
        daily_trash=daily_trash,
    )
    session.output.answer(made, made.secret)


KEYS = (
    Column("USER", lambda k: k.user),
    Column("ROLE", lambda k: f"{k.role} (agent)" if k.agent else k.role),
    Column("NAME", lambda k: k.name),
    Column("KEY", lambda k: k.hint),
    Column("CREATED", lambda k: k.created_at),
    Column("EXPIRES", lambda k: k.expires_at),
    Column("REVOKED", lambda k: k.revoked_at),
    Column("SUSPENDED", lambda k: k.suspended_at),
    Column("ID", lambda k: k.id, whole=True),
)


@key.command("ls", examples=("labkeep key ls", "labkeep key ls --all --json"))
@listed
@pass_session
def list_keys(session: Session) -> None:
    """List the keys of the workspace, without their secrets.

    Columns: user, role, name, the beginning of the key, created, expires, revoked, suspended, id.
    """
    session.output.list(session.client.keys.list, KEYS, window())


@key.command(
    "revoke",
    examples=(
        "labkeep key revoke 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
        "labkeep key revoke 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 --json",
    ),
)
@click.argument("id")
@pass_session
def revoke_key(session: Session, id: str) -> None:
    """Make the key ID unusable at once. Doing it again is fine."""
    revoked = session.client.keys.revoke(id)
    session.output.answer(revoked, f"revoked the key {revoked.hint}… of {revoked.user}")


@key.command(
    "resume",
    examples=(
        "labkeep key resume 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 --reason 'it was meant to'",
        "labkeep key resume 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 --json",
    ),
)
@click.argument("id")
@click.option("--reason", metavar="TEXT", help="Why, for the audit trail.")
@pass_session
def resume_key(session: Session, id: str, reason: str | None) -> None:
    """Let the agent's key ID remove things again, which was suspended for trashing too much at once."""
    resumed = session.client.keys.resume(id, reason=reason)
    session.output.answer(resumed, f"resumed the key {resumed.hint}… of {resumed.user}")


@click.group(cls=Group)
def member() -> None:
    """Who may do what in the workspace: viewer < editor < maintainer < owner."""


MEMBERS = (
    Column("USER", lambda m: m.user),
    Column("ROLE", lambda m: m.role),
    Column("SINCE", lambda m: m.created_at),
)


@member.command("ls", examples=("labkeep member ls", "labkeep --workspace research member ls --json"))
@listed
@pass_session
def list_members(session: Session) -> None:
    """List the members of the workspace.

    Columns: user, role, since.
    """
    session.output.list(session.client.members.list, MEMBERS, window())


@member.command(
    "set",
    examples=("labkeep member set ada maintainer", "labkeep --workspace research member set bo viewer"),
)
@click.argument("user")
@click.argument("role", type=click.Choice(ROLES))
@pass_session
def set_member(session: Session, user: str, role: str) -> None:
    """Give USER a role in the workspace."""
    made = session.client.members.set(user, role)
    session.output.answer(made, f"{made.user} is {made.role} now")
