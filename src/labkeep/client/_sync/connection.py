# Generated from labkeep/client/_async/connection.py by scripts/unasync.py: change that file instead.
"""Requests with retries, and answers as values: the one path of every resource."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, Generic, TypeVar

from labkeep.client import requests
from labkeep.client.pages import LoadedPages
from labkeep.client.pause import pause
from labkeep.client.retries import Retries, error_of, unavailable
from labkeep.client.target import Target
from labkeep.client.transport import Answer, Call, Lost, Transport
from labkeep.core.commands import Page

T = TypeVar("T")


class Connection:
    """One server, one key, and how patient to be."""

    def __init__(self, transport: Transport, target: Target, *, retries: Retries, timeout_s: float) -> None:
        self.transport = transport
        self.target = target
        self.retries = retries
        self.timeout_s = timeout_s
        self._headers = requests.headers_for(target)

    def call(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **fields: Any) -> Call:
        """A call with this connection's headers and timeout."""
        fields.setdefault("timeout_s", self.timeout_s)
        return Call(method=method, path=path, headers={**self._headers, **(headers or {})}, **fields)

    def send(self, call: Call) -> Answer:
        """The successful answer, after as many tries as it takes.

        Raises the `LabkeepError` that the server answered, or Unavailable when it did not answer.
        """
        for attempt in count():
            try:
                answer = self.transport.send(call)
            except Lost as lost:
                wait = self.retries.after_loss(attempt, call, lost)
                if wait is None:
                    raise unavailable(self.target.url, lost) from lost
            else:
                if answer.status < 300:
                    return answer
                wait = self.retries.after_answer(attempt, call, answer)
                if wait is None:
                    raise error_of(call, answer)
            pause(wait)
        raise AssertionError("unreachable")

    def read(self, output: type[T], path: str, **query: Any) -> T:
        """GET ``path`` as ``output``."""
        answer = self.send(self.call("GET", path + requests.query(query)))
        return requests.parse(output, answer.body, f"GET {path}")

    def write(self, output: type[T], method: str, path: str, body: Mapping[str, Any] | None = None) -> T:
        """``method`` on ``path`` with a JSON body. The idempotency key is the same for every try."""
        headers = {"Idempotency-Key": requests.idempotency_key()}
        content = b""
        if body is not None:
            headers["Content-Type"] = requests.JSON
            content = requests.body(body)
        answer = self.send(self.call(method, path, headers=headers, body=content))
        return requests.parse(output, answer.body, f"{method} {path}")

    def pages(self, item: Any, path: str, **query: Any) -> Pages[Any]:
        """The list at ``path``, of which nothing is fetched yet."""
        return Pages(self, Page[item], path, query)

    def close(self) -> None:
        """Give back connections and threads."""
        self.transport.close()


class Pages(LoadedPages[T], Generic[T]):
    """A list on the server. Iterating turns its pages; ``limit`` of the method that made it is the size of a page."""

    def __init__(self, connection: Connection, output: Any, path: str, query: Mapping[str, Any]) -> None:
        self._connection = connection
        self._output = output
        self._path = path
        self._query = query
        self._first: Any = None

    def first_page(self) -> Page[T]:
        """The first page: ``items``, and ``next``, the cursor of the second (None when there is none)."""
        if self._first is None:
            self._first = self._connection.read(self._output, self._path, **self._query)
        return self._first  # type: ignore[no-any-return]

    def by_page(self) -> Iterator[Page[T]]:
        """Page after page."""
        page = self.first_page()
        yield page
        while page.next is not None:
            query = {**self._query, "cursor": page.next}
            page = self._connection.read(self._output, self._path, **query)
            yield page

    def __iter__(self) -> Iterator[T]:
        for page in self.by_page():
            yield from page.items
