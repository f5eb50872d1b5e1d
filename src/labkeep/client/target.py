"""Where requests go and as whom: arguments, then ``LABKEEP_*`` variables, then the file that ``labkeep login`` writes."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from labkeep.core.errors import Invalid, Unauthenticated

DEFAULT_URL = "http://127.0.0.1:8080"


class Target(msgspec.Struct, frozen=True):
    """A server and the key to use there. ``workspace`` (id or name) is the key's own when empty."""

    url: str
    key: str
    workspace: str = ""


def resolve(url: str | None = None, key: str | None = None, workspace: str | None = None) -> Target:
    """The target that these arguments, the environment and the configuration file name together.

    The file's key goes to the file's server only, never to another one that an argument or a variable names.
    Raises Invalid for a URL that is none, and Unauthenticated when no key is found.
    """
    saved_url, saved_key = _saved()
    chosen = normalize(url or os.environ.get("LABKEEP_URL") or saved_url or DEFAULT_URL)
    found = key or os.environ.get("LABKEEP_API_KEY")
    if not found and saved_key and chosen == normalize(saved_url or DEFAULT_URL):
        found = saved_key
    if not found:
        raise Unauthenticated(
            f"no API key for {chosen}: pass api_key=, set LABKEEP_API_KEY, or run `labkeep login`", url=chosen
        )
    if not (found.isascii() and found.isprintable()) or " " in found:
        raise Invalid("the API key has characters that no key has; was it copied whole?", path="api_key")
    return Target(chosen, found, workspace or os.environ.get("LABKEEP_WORKSPACE", ""))


def normalize(url: str) -> str:
    """``url`` without what does not belong to it: surrounding space, the last slash, the API's own path."""
    text = url.strip().rstrip("/").removesuffix("/api/v1")
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.username or parts.query or parts.fragment or any(c <= " " for c in text):
        raise Invalid(f"{url!r} is not the address of a server; write it like {DEFAULT_URL}", path="url")
    return text


def login(key: str, url: str | None = None) -> Path:
    """Keep a key and the server it belongs to for later processes; returns the file, which only its owner may read."""
    file = config_file()
    chosen = normalize(url or os.environ.get("LABKEEP_URL") or DEFAULT_URL)
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.{os.getpid()}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
        handle.write(f"url = {_quoted(chosen)}\nkey = {_quoted(key)}\n")
    fresh.replace(file)
    return file


def config_file() -> Path:
    """``LABKEEP_CONFIG``, or ``labkeep/config.toml`` in the user's configuration folder."""
    named = os.environ.get("LABKEEP_CONFIG")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "labkeep" / "config.toml"


def _saved() -> tuple[str | None, str | None]:
    file = config_file()
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None, None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{file} is not readable as TOML ({error}); run `labkeep login` to write it again") from None
    return _text(values.get("url")), _text(values.get("key"))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _quoted(text: str) -> str:
    # A TOML basic string and a JSON string escape alike.
    return msgspec.json.encode(text).decode()
