"""Every setting, documented on its field. Values come from a TOML file and ``LABKEEP_*`` variables, variables first."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from labkeep.core.errors import Invalid

MIB = 1024 * 1024


def _doc(text: str) -> Meta:
    return Meta(description=text)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one server runs. Every field has a default that suits a small team."""

    data: Annotated[str, _doc("Folder of the embedded default: SQLite database and blobs.")] = "./labkeep-data"
    host: Annotated[str, _doc("Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, _doc("Port to listen on; 0 picks a free one.")] = 8080
    listen: Annotated[
        dict[str, int | str],
        _doc("Dialects at the root of a port of their own: name to port or host:port. JSON in the variable."),
    ] = {}
    hosts: Annotated[
        dict[str, str], _doc("Dialects at the root of a host name of their own: host name to dialect.")
    ] = {}
    public_url: Annotated[str, _doc("Address under which clients reach the server, when a proxy stands before it.")] = (
        ""
    )
    trust_forwarded: Annotated[bool, _doc("Believe X-Forwarded-Proto, -Host and -Prefix of a proxy.")] = False
    database_url: Annotated[
        str, _doc("postgresql+psycopg://… to use PostgreSQL instead of SQLite in the data folder.")
    ] = ""
    blobs_url: Annotated[
        str, _doc("s3://bucket/prefix (or gs://, az://) to keep blobs there instead of the data folder.")
    ] = ""
    blobs_options: Annotated[dict[str, str], _doc("Options for the object store: endpoint, region, keys.")] = {}
    admin_key: Annotated[str, _doc("The first owner's key on an empty store; generated and printed when unset.")] = ""
    master_key: Annotated[
        str,
        _doc(
            "32 bytes in base64 or hex, under which the store's own secret keys are wrapped; kept outside of the store."
        ),
    ] = ""
    master_key_file: Annotated[str, _doc("File that holds the master key, instead of master_key.")] = ""
    old_master_key_file: Annotated[
        str, _doc("File that holds the master key before this one: it opens what is not wrapped anew yet.")
    ] = ""
    embedded_worker: Annotated[bool, _doc("Run background jobs inside the server process.")] = True
    readers: Annotated[int, Meta(ge=1, le=64, description="Database connections for reading.")] = 4
    grace_days: Annotated[
        int, Meta(ge=0, le=3650, description="Days that something stays restorable in the trash.")
    ] = 30
    auto_purge: Annotated[bool, _doc("Purge what is in the trash for longer than the grace period.")] = True
    apply_at_once: Annotated[
        int,
        Meta(ge=0, description="Objects that a verb of the lifecycle changes at once; larger selections become jobs."),
    ] = 2_000
    agent_daily_trash: Annotated[
        int, Meta(ge=0, description="Objects that an agent's key may trash in 24 hours, unless the key says otherwise.")
    ] = 1_000
    agent_burst: Annotated[
        int, Meta(ge=1, description="Objects trashed within 5 minutes above which an agent's key is suspended.")
    ] = 200
    apply_batch: Annotated[
        int,
        Meta(ge=1, le=20_000, description="Objects that such a job changes in one transaction; others wait for it."),
    ] = 2_000
    job_lease_s: Annotated[
        int,
        Meta(ge=1, le=3600, description="Seconds without a sign of life after which a worker's job goes to another."),
    ] = 60
    crashed_after_s: Annotated[
        int, Meta(ge=10, description="Seconds without a heartbeat after which a run counts as crashed.")
    ] = 300
    outgoing_allowed: Annotated[
        tuple[str, ...],
        _doc(
            "Private hosts and networks that webhooks may reach: names, addresses or 10.1.0.0/16. Commas in the variable."
        ),
    ] = ()
    max_body_bytes: Annotated[int, Meta(ge=1024, description="Largest request body that is held in memory.")] = 64 * MIB
    max_inflated_bytes: Annotated[int, Meta(ge=1024, description="Largest body after decompression.")] = 256 * MIB
    max_upload_bytes: Annotated[int, Meta(ge=1024, description="Largest file upload.")] = 64 * 1024 * MIB
    max_json_depth: Annotated[int, Meta(ge=4, le=500, description="Deepest nesting accepted in JSON.")] = 100
    seal_min_rows: Annotated[
        int, Meta(ge=1, description="Histories of at least this many rows are sealed to Parquet when their run ends.")
    ] = 5000
    seal_every_rows: Annotated[
        int, Meta(ge=1000, description="A growing stream is sealed each time it has this many unsealed rows.")
    ] = 200_000


_DICTIONARIES = {field.name for field in msgspec.structs.fields(Settings) if field.default_factory is dict}
_LISTS = {field.name for field in msgspec.structs.fields(Settings) if field.default == ()}


def load(path: Path | None = None, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from a TOML file, then ``LABKEEP_*`` variables, then ``overrides`` that are not None.

    Invalid when the file has an unknown key or a value has the wrong type; the message names it.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values.update(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Invalid(f"settings file {path}: {error}") from error
    try:
        values.update(_from_environment(os.environ if environ is None else environ))
        values.update({key: value for key, value in overrides.items() if value is not None})
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.MsgspecError as error:
        raise Invalid(f"settings: {error}") from error


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """``LABKEEP_GRACE_DAYS=7`` -> ``{"grace_days": "7"}``; a dictionary is written as JSON, a list with commas."""
    found: dict[str, Any] = {}
    for field in Settings.__struct_fields__:
        text = environ.get(f"LABKEEP_{field.upper()}")
        if text is not None:
            found[field] = _parse(field, text)
    return found


def _parse(field: str, text: str) -> Any:
    if field in _DICTIONARIES:
        return msgspec.json.decode(text.encode())
    return [word.strip() for word in text.split(",") if word.strip()] if field in _LISTS else text
