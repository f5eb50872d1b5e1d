"""Requests that the server makes itself. They do not reach into the network that the server stands in: addresses that
are not public are refused, after the name is resolved and for the very address that is connected to.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import httpcore2

from labkeep.core.errors import Forbidden

TIMEOUT_S = 10.0
"""Seconds for each of connecting, sending and waiting for the answer."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


_FAILURES = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.TimeoutException,
    httpcore2.UnsupportedProtocol,
)


class Answer(NamedTuple):
    """The HTTP status, or 0 and why there was none."""

    status: int
    error: str = ""


class Outgoing:
    """A client for POST requests. ``allowed`` lists host names and networks that are fine although they are private."""

    def __init__(self, allowed: Iterable[str] = (), timeout_s: float = TIMEOUT_S) -> None:
        self._timeouts = dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)
        # No redirects, no proxies, no cookies: what is sent goes to the address that was asked for.
        self._pool = httpcore2.ConnectionPool(network_backend=_Guard(allowed), keepalive_expiry=30)

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send ``body``; of the answer only the status is read."""
        fields = [("content-type", "application/json"), ("user-agent", "labkeep"), *headers.items()]
        try:
            with self._pool.stream(
                "POST", url, headers=fields, content=body, extensions={"timeout": self._timeouts}
            ) as response:
                return Answer(response.status)
        except Forbidden as error:
            return Answer(0, error.message)
        except (*_FAILURES, OSError) as error:
            return Answer(0, f"{type(error).__name__}: {error}"[:300])

    def close(self) -> None:
        """Close what is open."""
        self._pool.close()


class _Guard(httpcore2.NetworkBackend):
    """Resolves a name, refuses what is private, and connects to the address that it looked at: the name could lead
    somewhere else a moment later.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self._backend = httpcore2.SyncBackend()
        self._hosts, self._networks = _split(allowed)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        address = self._resolve(host, port)
        return self._backend.connect_tcp(str(address), port, timeout, local_address, socket_options)

    def _resolve(self, host: str, port: int) -> Address:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"{host} cannot be resolved: {error}") from error
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        if host.lower() not in self._hosts:
            for address in addresses:
                self._check(host, address)
        return addresses[0]

    def _check(self, host: str, address: Address) -> None:
        meant = _meant(address)
        public = meant.is_global and not meant.is_multicast
        if public or any(meant.version == network.version and meant in network for network in self._networks):
            return
        raise Forbidden(
            f"{host} leads to {address}, which is not a public address: list it in the setting outgoing_allowed to permit it"
        )


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo or address


def _split(allowed: Iterable[str]) -> tuple[frozenset[str], list[Any]]:
    hosts, networks = set(), []
    for entry in allowed:
        try:
            networks.append(ipaddress.ip_network(entry, strict=False))
        except ValueError:
            hosts.add(entry.lower())
    return frozenset(hosts), networks
