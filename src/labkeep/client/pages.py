"""What lists have beside turning pages: a way to get just the first one, which threads and asyncio spell differently."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from labkeep.core.commands import Page

T = TypeVar("T")


class AwaitedPages(Generic[T]):
    """``await client.runs.list()`` is the first page: ``.items`` and ``.next``."""

    first_page: Callable[[], Any]

    def __await__(self) -> Generator[Any, None, Page[T]]:
        return self.first_page().__await__()  # type: ignore[no-any-return]


class LoadedPages(Generic[T]):
    """``client.runs.list().items`` is the first page, fetched when it is asked for."""

    first_page: Callable[[], Any]

    @property
    def items(self) -> list[T]:
        """The items of the first page."""
        return self.first_page().items  # type: ignore[no-any-return]

    @property
    def next(self) -> str | None:
        """The cursor of the second page; None when the first is all."""
        return self.first_page().next  # type: ignore[no-any-return]
