"""Where each setting's value comes from."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec.inspect import Metadata, StructType, type_info

from labkeep.settings import Settings, load

HIDDEN = "(hidden)"
_SECRET = ("key", "secret", "password", "token", "credential")


def explain(config: Path | None, environ: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Name, value, origin and description of every setting. Invalid for a file or a value that is wrong."""
    environ = os.environ if environ is None else environ
    values = load(config, environ)
    in_file = tomllib.loads(config.read_text(encoding="utf-8")) if config is not None else {}
    return [
        {
            "name": name,
            "value": shown(name, getattr(values, name)),
            "origin": _origin(name, environ, in_file, config),
            "description": description,
        }
        for name, description in descriptions().items()
    ]


def descriptions() -> dict[str, str]:
    """Setting → what it is, from the field's own documentation."""
    info = type_info(Settings)
    assert isinstance(info, StructType)
    return {field.name: _description(field.type) for field in info.fields}


def _description(kind: Any) -> str:
    found = (kind.extra_json_schema or {}) if isinstance(kind, Metadata) else {}
    return str(found.get("description", ""))


def _origin(name: str, environ: Mapping[str, str], in_file: Mapping[str, Any], config: Path | None) -> str:
    variable = f"LABKEEP_{name.upper()}"
    if variable in environ:
        return variable
    return str(config) if name in in_file else "default"


def shown(name: str, value: Any) -> Any:
    """The value without what is secret in it."""
    if isinstance(value, Mapping):
        return {inner: shown(inner, text) for inner, text in value.items()}
    if value and any(word in name.lower() for word in _SECRET):
        return HIDDEN
    return _without_password(value) if isinstance(value, str) and "://" in value else value


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", f":{HIDDEN}@", 1)
