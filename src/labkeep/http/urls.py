"""Under which address a client reaches us: needed wherever an answer holds a link."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

from labkeep.http.wire import store_of

OWN_ROOT = "labkeep.own_root"
"""Key of the scope of a request that came in by a door of the application's own, where it has no prefix."""


def base_url(request: Request) -> str:
    """Absolute URL of the application that handles ``request``, its prefix included, without a slash at the end.

    ``settings.public_url`` wins; else the Host header, and with ``settings.trust_forwarded`` what the proxy says of
    itself in X-Forwarded-Proto, -Host and -Prefix. At a port or host name of the application's own there is no prefix.
    """
    return site_url(request) + _prefix(request)


def site_url(request: Request) -> str:
    """Absolute URL of the whole server, without a slash at the end; of the application at a door of its own."""
    settings = store_of(request).settings
    if settings.public_url and not request.scope.get(OWN_ROOT):  # that is the address of the whole server
        return settings.public_url.rstrip("/")
    scheme, host = request.url.scheme, request.url.netloc
    outside = str(request.scope.get("app_root_path", ""))
    if settings.trust_forwarded:
        scheme = _forwarded(request.headers, "proto") or scheme
        host = _forwarded(request.headers, "host") or host
        outside = _forwarded(request.headers, "prefix") or outside
    return f"{scheme}://{host}{outside}".rstrip("/")


def host_name(scope: Scope, *, trust_forwarded: bool) -> str:
    """The host name that the client asked for, in lower case and without a port; empty when it named none."""
    headers = Headers(scope=scope)
    asked = (_forwarded(headers, "host") if trust_forwarded else "") or headers.get("host", "")
    name, colon, port = asked.lower().rpartition(":")
    return name if colon and port.isdigit() else asked.lower()


def _prefix(request: Request) -> str:
    """The prefix under which the application is mounted in ours."""
    scope = request.scope
    mounted = str(scope.get("root_path", "")).removeprefix(str(scope.get("app_root_path", "")))
    return mounted.rstrip("/")


def _forwarded(headers: Headers, name: str) -> str:
    # Several proxies append with commas: the first is the one that the client spoke to.
    return headers.get(f"x-forwarded-{name}", "").partition(",")[0].strip()
