"""What commands print: tables for people, tab-separated lines for the next program, JSON when asked for.

Standard output holds the answer and nothing else; remarks go to standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import click

from labkeep.cli import cells

PAGE = 500
"""Objects that are asked for at a time."""


class Column(NamedTuple):
    """One column of a table. ``whole`` is never cut, also where the terminal is too narrow: ids are copied."""

    title: str
    value: Callable[[Any], Any]
    whole: bool = False


class Window(NamedTuple):
    """Which part of a list: at most ``limit`` objects (0 is all), from ``cursor`` on."""

    limit: int
    cursor: str | None


class Output:
    """Standard output of one command."""

    def __init__(self, *, human: bool, as_json: bool, now: Callable[[], datetime]) -> None:
        self.human = human
        self.as_json = as_json
        self._now = now

    def cell(self, value: Any) -> str:
        """A value as text, for whoever reads it."""
        return cells.human(value, self._now()) if self.human else cells.plain(value)

    def line(self, text: str) -> None:
        """One line of the answer."""
        click.echo(text)

    def note(self, text: str) -> None:
        """A remark for people, beside the answer. Where JSON is wanted, only an error is said there."""
        if not self.as_json:
            click.echo(text, err=True)

    def json(self, value: Any) -> None:
        """A value as the API writes it; indented for people."""
        click.echo(_encode(value, indent=2 if self.human else 0))

    def answer(self, value: Any, text: str) -> None:
        """``value`` where JSON is wanted, ``text`` elsewhere."""
        if self.as_json:
            self.json(value)
        else:
            self.line(text)

    # --- one object

    def facts(self, value: Any, pairs: Iterable[tuple[str, Any]]) -> None:
        """``value`` as JSON, or ``pairs`` of it: one line for each that is not empty."""
        if self.as_json:
            self.json(value)
            return
        shown = [(name, self.cell(fact)) for name, fact in pairs if fact not in (None, "", (), [], {})]
        width = max((len(name) for name, _ in shown), default=0) + 2
        for name, text in shown:
            self.line(f"{name:<{width}}{text}" if self.human else f"{name}\t{text}")

    # --- lists

    def list(self, fetch: Callable[..., Any], columns: Sequence[Column], window: Window) -> None:
        """The objects of a list method of the client, page by page."""
        pages = _pages(fetch, window)
        if self.as_json:
            self._json_pages(pages)
            return
        more = None
        for number, page in enumerate(pages):
            self.rows(columns, page.items, header=number == 0)
            more = page.next
        if more is not None:
            self.note(f"… and more: --limit 0 prints all, --cursor {more} goes on from here")

    def table(self, columns: Sequence[Column], items: Sequence[Any]) -> None:
        """A list that is there already."""
        if self.as_json:
            self._json_pages(iter([_Page(list(items), None)]))
        else:
            self.rows(columns, items)

    def rows(self, columns: Sequence[Column], items: Sequence[Any], *, header: bool = True) -> None:
        """One line for each item. People get a header and aligned columns."""
        if not self.human:
            for item in items:
                self.line("\t".join(cells.plain(column.value(item)) for column in columns))
        elif items:
            self._aligned(columns, items, header)

    def _aligned(self, columns: Sequence[Column], items: Sequence[Any], header: bool) -> None:
        """Only columns that have something to say; each value is asked for once."""
        from labkeep.cli.layout import aligned, is_number

        values = [[column.value(item) for item in items] for column in columns]
        texts = [[self.cell(value) for value in column] for column in values]
        kept = [number for number, column in enumerate(texts) if any(column)]
        for line in aligned(
            [columns[number].title for number in kept],
            list(zip(*(texts[number] for number in kept), strict=True)),
            whole=[columns[number].whole for number in kept],
            right=[all(map(is_number, values[number])) for number in kept],
            header=header,
        ):
            self.line(line)

    def _json_pages(self, pages: Iterator[Any]) -> None:
        """One page as the API writes it, however many were fetched; written while they come."""
        click.echo('{"items":[', nl=False)
        separator, following = "", None
        for page in pages:
            for item in page.items:
                click.echo(f"{separator}\n{_encode(item)}", nl=False)
                separator = ","
            following = page.next
        click.echo(f'\n],"next":{_encode(following)}}}')


class _Page(NamedTuple):
    items: list[Any]
    next: str | None


def _pages(fetch: Callable[..., Any], window: Window) -> Iterator[Any]:
    """Pages of a list, of which none holds more than is still wanted."""
    left, cursor = window.limit, window.cursor
    while True:
        page = fetch(limit=min(left, PAGE) if window.limit else PAGE, cursor=cursor).first_page()
        yield page
        left, cursor = left - len(page.items), page.next
        if cursor is None or (window.limit and left <= 0):
            return


def _encode(value: Any, *, indent: int = 0) -> str:
    from msgspec import json, to_builtins

    from labkeep.client.requests import body

    data = body(to_builtins(value))  # times as the API writes them; numbers that JSON does not have, as well
    return (json.format(data, indent=indent) if indent else data).decode()
