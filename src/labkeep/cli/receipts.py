"""Receipts of what is gone: listed, saved, and checked with or without a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labkeep.cli.cells import Size, count_of
from labkeep.cli.command import Decorator, Group, pass_session
from labkeep.cli.options import listed, window
from labkeep.cli.output import Column
from labkeep.cli.session import Session
from labkeep.core.errors import Corrupt, NotFound

if TYPE_CHECKING:
    from labkeep.core.receipts import PublicKey, Receipt, Verdict

keys_option: Decorator = click.option(
    "--keys",
    metavar="FILE|URL",
    help="Saved keys, or the server to ask for them.  [default: the server that other commands talk to]",
)


def keys_of(session: Session, source: str | None) -> list[PublicKey]:
    """The keys in a file, at a URL, or of the session's server."""
    if source is None:
        return list(session.client.receipts.keys().keys)
    from labkeep.client.signatures import load_keys

    return load_keys(source)


@click.group(cls=Group)
def receipt() -> None:
    """Signed proofs of what was purged or erased."""


RECEIPTS = (
    Column("TIME", lambda r: r.created_at),
    Column("KIND", lambda r: r.kind),
    Column("WHAT", lambda r: _what(r.body)),
    Column("REASON", lambda r: r.body.get("why", {}).get("reason", "") or r.body.get("ticket", "")),
    Column("ABOUT", lambda r: r.subject_id, whole=True),
    Column("ID", lambda r: r.id, whole=True),
)


@receipt.command("ls", examples=("labkeep receipt ls", "labkeep receipt ls --kind erasure --all --json"))
@click.option("--kind", type=click.Choice(("purge", "erasure")), help="Only of this kind.")
@click.option("--about", metavar="ID", help="Only those about this deletion or erasure request.")
@listed
@pass_session
def list_receipts(session: Session, kind: str | None, about: str | None) -> None:
    """List receipts, newest first.

    Columns: time, kind, what, reason, deletion or erasure request, id.
    """

    def fetch(**page: Any) -> Any:
        return session.client.receipts.list(kind=kind, subject_id=about, **page)

    session.output.list(fetch, RECEIPTS, window())


def _find(session: Session, id: str) -> Receipt:
    """By its own id, or by that of the deletion that it is about."""
    try:
        return session.client.receipts.get(id)
    except NotFound:
        return session.client.receipts.of_deletion(id)


@receipt.command(
    "show",
    examples=(
        "labkeep receipt show 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77",
        "labkeep receipt show 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 --json | jq .body.method",
    ),
)
@click.argument("id")
@pass_session
def show_receipt(session: Session, id: str) -> None:
    """Show the receipt ID, or the receipt of the deletion ID."""
    found = _find(session, id)
    session.output.facts(found, [("id", found.id), *_facts(found.body), ("key", found.signing_key_id)])


_ERASED = ("action", "subject_digest", "found", "deletions", "ticket", "requested_at", "verified_at")


def _what(body: dict[str, Any]) -> str:
    if body.get("kind") == "erasure":
        return count_of({"object": body.get("objects", 0)})
    return count_of(body.get("what", {}).get("counts", {}))


def _facts(body: dict[str, Any]) -> list[tuple[str, Any]]:
    """A body, one line for each fact; long lists by their length."""
    what = body.get("what", {})
    known: list[tuple[str, Any]] = [
        ("kind", body.get("kind")),
        ("about", body.get("subject_id")),
        ("signed", body.get("issued_at")),
    ]
    known.append(("what", _what(body)))
    if body.get("kind") == "erasure":
        known += [(name.replace("_", " "), _short(body.get(name))) for name in _ERASED if body.get(name)]
    else:
        known.append(("size", Size(what.get("bytes", 0))))
    if kept := what.get("kept", {}).get("counts"):
        known += [("kept", f"{count_of(kept)}: {', '.join(what['kept'].get('because', ())) or 'see the audit trail'}")]
    for part in ("why", "method", "encryption", "verification", "issuer"):
        known += [(f"{part}: {name.replace('_', ' ')}", _short(value)) for name, value in body.get(part, {}).items()]
    known += [(name, what[name]) for name in ("items_digest", "commitment") if name in what]
    return known


def _short(value: Any) -> Any:
    return str(value) if isinstance(value, list | dict) else value


@receipt.command(
    "save",
    examples=(
        "labkeep receipt save 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 receipt.json",
        "labkeep receipt save 0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77 > receipt.json",
    ),
)
@click.argument("id")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@pass_session
def save_receipt(session: Session, id: str, file: Path | None) -> None:
    """Write the receipt ID, or that of the deletion ID, into FILE as `labkeep receipt verify` takes it.

    Without FILE it goes to standard output.
    """
    from labkeep.core.receipts import to_file

    found = _find(session, id)
    if file is None:
        click.echo(to_file(found), nl=False)
        return
    file.write_bytes(to_file(found))
    session.output.answer({"path": str(file), "id": found.id}, f"Wrote {file}")


@receipt.command(
    "verify",
    examples=(
        "labkeep receipt verify receipt.json --keys labkeep-keys.json",
        "labkeep receipt verify receipt.json --keys https://labkeep.example",
        "labkeep receipt verify receipt.json",
    ),
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@keys_option
@pass_session
def verify_receipt(session: Session, file: Path, keys: str | None) -> None:
    """Check that FILE is a receipt, unchanged to the last byte, that was signed by one of the keys.

    With saved keys it asks nobody. Exit code 7 when it is not valid.
    """
    from labkeep.client.signatures import examine

    verdict = examine(file.read_bytes(), keys_of(session, keys))
    if session.json:
        session.output.json(verdict)
    else:
        _say(session, verdict)
    if not verdict.valid:
        click.get_current_context().exit(Corrupt.exit_code)


def _say(session: Session, verdict: Verdict) -> None:
    if not verdict.valid:
        session.output.line("NOT VALID")
        for problem in verdict.problems:
            session.output.line(problem)
        return
    session.output.line(f"Valid: signed with key {verdict.key_id} ({verdict.key_state}), and unchanged since")
    session.output.facts(verdict.body, _facts(verdict.body))


KEYS = (
    Column("IN USE SINCE", lambda k: k.created_at),
    Column("RETIRED", lambda k: k.retired_at),
    Column("PUBLIC KEY", lambda k: k.x, whole=True),
    Column("ID", lambda k: k.kid, whole=True),
)


@receipt.command("keys", examples=("labkeep receipt keys", "labkeep receipt keys --save labkeep-keys.json"))
@click.option("--save", "file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Into this file.")
@pass_session
def list_keys(session: Session, file: Path | None) -> None:
    """List the server's public signing keys, newest first, or save them for checking without it.

    Anybody can have them at /.well-known/labkeep-keys.json. Columns: in use since, retired, public key, id.
    """
    found = session.client.receipts.keys()
    if file is None:
        if session.json:
            session.output.json(found)
        else:
            session.output.rows(KEYS, found.keys)
        return
    import msgspec

    file.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    session.output.answer({"path": str(file), "keys": len(found.keys)}, f"Wrote {len(found.keys)} keys to {file}")


@receipt.command("rotate-key", examples=("labkeep receipt rotate-key", "labkeep receipt rotate-key --json"))
@pass_session
def rotate_key(session: Session) -> None:
    """Put a new signing key into use. The old ones stay, and go on verifying what they signed.

    For the administrator's key. Save the keys again afterwards, for whoever checks without the server.
    """
    made = session.client.receipts.rotate_key()
    session.output.answer(made, f"Signing with key {made.kid} from now on")
