"""Under which address a client reaches us: needed wherever an answer holds a link."""

from __future__ import annotations

from starlette.requests import Request

from labkeep.http.wire import store_of


def base_url(request: Request) -> str:
    """Absolute URL of the application that handles ``request``, its prefix included, without a slash at the end.

    ``settings.public_url`` wins; else the Host header, and with ``settings.trust_forwarded`` what the proxy says of
    itself in X-Forwarded-Proto, -Host and -Prefix.
    """
    return site_url(request) + _prefix(request)


def site_url(request: Request) -> str:
    """Absolute URL of the whole server, without a slash at the end."""
    settings = store_of(request).settings
    if settings.public_url:
        return settings.public_url.rstrip("/")
    scheme, host = request.url.scheme, request.url.netloc
    outside = str(request.scope.get("app_root_path", ""))
    if settings.trust_forwarded:
        scheme = _forwarded(request, "proto") or scheme
        host = _forwarded(request, "host") or host
        outside = _forwarded(request, "prefix") or outside
    return f"{scheme}://{host}{outside}".rstrip("/")


def _prefix(request: Request) -> str:
    """The prefix under which the application is mounted in ours."""
    scope = request.scope
    mounted = str(scope.get("root_path", "")).removeprefix(str(scope.get("app_root_path", "")))
    return mounted.rstrip("/")


def _forwarded(request: Request, name: str) -> str:
    # Several proxies append with commas: the first is the one that the client spoke to.
    return request.headers.get(f"x-forwarded-{name}", "").partition(",")[0].strip()
