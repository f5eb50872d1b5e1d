"""Sockets to serve on: bound before anything else happens, so that a server that cannot listen changes nothing."""

from __future__ import annotations

import socket

from labkeep.core.errors import Invalid, Unavailable

LAST_PORT = 65535
BACKLOG = 2048


def parse_address(text: str, default_host: str, path: str) -> tuple[str, int]:
    """``8081``, ``0.0.0.0:8081`` or ``[::1]:8081`` as host and port. Invalid, naming ``path``, for anything else."""
    host, _, port = text.strip().rpartition(":")
    if not (port.isascii() and port.isdigit()) or int(port) > LAST_PORT:
        raise Invalid(f"{path}: {text[:80]!r} is neither a port nor host:port", path=path)
    return host.removeprefix("[").removesuffix("]") or default_host, int(port)


def bind(host: str, port: int, hint: str) -> socket.socket:
    """A socket that listens: who connects from now on waits until the server is there, and is not turned away.

    Unavailable, with the ``hint``, when the port is taken or the address is none of this machine.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"cannot listen on {host}:{port}: {error.strerror}. Is another server running there? {hint}",
            host=host,
            port=port,
        ) from error
    listener.set_inheritable(True)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a client on this machine finds what is served on a socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
