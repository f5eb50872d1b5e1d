"""Policies as files: TOML or JSON that is kept under version control. Pure.

One file holds one policy (its fields at the top) or several (a list ``policy``). Beside what the policy says stand
``name``, ``scope`` or ``project``, ``enabled`` and ``every``.
"""

from __future__ import annotations

import tomllib
from typing import Any

import msgspec

from labkeep.core.commands_policies import DAY_S
from labkeep.core.entities import Json
from labkeep.core.errors import Invalid
from labkeep.core.quantities import parse_duration


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """One policy of a file: where it holds, when it runs, and what it says."""

    name: str
    scope: str | None = None
    project: str | None = None
    enabled: bool = True
    every_s: int = DAY_S
    body: Json = {}


def read(text: str, name: str) -> list[Written]:
    """The policies in a file called ``name``. Invalid, naming the file and the policy, when it makes no sense."""
    try:
        data = msgspec.json.decode(text) if name.endswith(".json") else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"{name}: {error}", path=name) from None
    found = data.get("policy", [data]) if isinstance(data, dict) else data
    if not isinstance(found, list) or not found:
        raise Invalid(f"{name}: there is no policy in it: write its fields, or a list [[policy]] of several", path=name)
    if isinstance(data, dict) and "policy" in data and len(data) > 1:
        beside = ", ".join(sorted(set(data) - {"policy"}))
        raise Invalid(f"{name}: {beside} stand beside the list of policies, in none of them", path=name)
    written = [_written(each, f"{name}: policy {number}") for number, each in enumerate(found, 1)]
    _check_distinct(written, name)
    return written


def _check_distinct(written: list[Written], name: str) -> None:
    seen: set[tuple[str, str, str | None]] = set()
    for each in written:
        key = (each.name, each.scope or "", each.project)
        if key in seen:
            raise Invalid(f"{name}: policy {each.name!r} is there twice", path=name)
        seen.add(key)


def _written(fields: Any, where: str) -> Written:
    if not isinstance(fields, dict):
        raise Invalid(f"{where} is no table of fields", path=where)
    body = dict(fields)
    name = body.pop("name", None)
    if not isinstance(name, str) or not name:
        raise Invalid(
            f"{where} has no name: it is how the file and the server agree on which one is meant", path="name"
        )
    where = f"{where} ({name})"
    every = _typed(body, "every", str, where)
    return Written(
        name=name,
        scope=_typed(body, "scope", str, where),
        project=_typed(body, "project", str, where),
        enabled=_typed(body, "enabled", bool, where) is not False,
        every_s=DAY_S if every is None else int(parse_duration(every, f"{where}: every").total_seconds()),
        body=body,
    )


def _typed(body: Json, field: str, kind: type, where: str) -> Any:
    value = body.pop(field, None)
    if value is not None and not isinstance(value, kind):
        raise Invalid(f"{where}: {field} must be {'true or false' if kind is bool else 'text'}", path=field)
    return value
