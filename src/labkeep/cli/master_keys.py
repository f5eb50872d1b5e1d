"""Commands for the keys that lie outside of a store."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

import click

from labkeep.cli.command import Command, pass_session
from labkeep.cli.server import config_option, data_option, server_root, settings_of
from labkeep.cli.session import Session
from labkeep.core.errors import AlreadyExists


@click.command(
    cls=Command,
    examples=("labkeep keygen master", "labkeep keygen master --out /etc/labkeep/master.key"),
)
@click.argument("kind", type=click.Choice(["master"]))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it to a new file.")
@pass_session
def keygen(session: Session, kind: str, out: Path | None) -> None:
    """Make a master key: 32 random bytes in base64.

    The server reads it from the file that the setting master_key_file names. Keep a copy of it apart from every backup
    of the store: without it nothing that is encrypted can be read, and whoever has it and a backup can read everything
    that the backup holds.
    """
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    if out is None:
        session.output.answer({"kind": kind, "key": key}, key)
        return
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise AlreadyExists(f"{out} is there already, and is not written over: choose another name") from None
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(key + "\n")
    session.output.answer({"kind": kind, "file": str(out)}, f"Wrote {out}, for the setting master_key_file")


@click.command(
    "rotate-master-key",
    cls=Command,
    examples=(
        "labkeep rotate-master-key --new-file /etc/labkeep/new.key",
        "LABKEEP_MASTER_KEY_FILE=new.key LABKEEP_OLD_MASTER_KEY_FILE=old.key labkeep rotate-master-key",
    ),
)
@click.option(
    "--new-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The new master key.  [default: the settings name the new one and the old one]",
)
@data_option
@config_option
@pass_session
def rotate_master_key(session: Session, new_file: Path | None, data: str | None, config: Path | None) -> None:
    """Wrap every data key, signing key and webhook secret under another master key.

    Contents are not touched. With SQLite the server must be stopped. With PostgreSQL first give all servers the new key
    as master_key_file and the old one as old_master_key_file, then run this beside them. It may be interrupted and run
    again. Afterwards nothing in the store needs the old key; backups made before still do.
    """
    root = server_root()
    done = root.rotate_master_key(settings_of(config, data=data), new_file)
    left = ", ".join(f"{count} need master key {id}" for id, count in done.others.items())
    session.output.answer(
        done,
        f"wrapped under the new master key: {done.data_keys} data keys, {done.secrets} other secrets"
        + (f"; {left}: run again with that key as the old one" if left else ""),
    )
