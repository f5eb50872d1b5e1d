"""The first thing that a request meets: the port that it came in by, the host that it asks for, the prefix of its path."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from labkeep.http.urls import OWN_ROOT, host_name


class Doors:
    """Sends a request to the application whose port it came in by, or whose host name it asks for, at its root; else to
    the one of ``prefixes`` that its path begins with; else to ``site``.

    ``ports`` are those that the sockets are bound to. With ``trust_forwarded`` the host name is the one that the
    proxy was asked for.
    """

    def __init__(
        self,
        site: ASGIApp,
        ports: Mapping[int, ASGIApp],
        hosts: Mapping[str, ASGIApp],
        prefixes: Mapping[str, ASGIApp],
        *,
        trust_forwarded: bool,
    ) -> None:
        self._site, self._ports, self._trust = site, dict(ports), trust_forwarded
        self._hosts = {name.lower(): app for name, app in hosts.items()}
        self._prefixes = [(prefix, f"{prefix}/", app) for prefix, app in prefixes.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        behind = self._behind(scope) if scope["type"] in ("http", "websocket") else None
        if behind is None:
            await self._below(scope)(scope, receive, send)
        else:
            scope[OWN_ROOT] = True
            await behind(scope, receive, send)

    def _below(self, scope: Scope) -> ASGIApp:
        """The application of a prefix, which is moved from the path to the root as mounting would; else the site."""
        root = scope.get("root_path", "")
        path = scope.get("path", "").removeprefix(root)
        for prefix, beginning, app in self._prefixes:
            if path.startswith(beginning):
                scope.setdefault("app_root_path", root)
                scope["root_path"] = root + prefix
                return app
        return self._site

    def _behind(self, scope: Scope) -> ASGIApp | None:
        server = scope.get("server")
        found = self._ports.get(server[1]) if server else None
        if found is None and self._hosts:
            found = self._hosts.get(host_name(scope, trust_forwarded=self._trust))
        return found
