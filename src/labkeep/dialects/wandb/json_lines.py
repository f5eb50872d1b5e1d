"""Rows of numbers as texts of JSON, made by column: what a scan of a long history spends most of its time on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

_encoder = msgspec.json.Encoder()


def encode_rows(columns: Mapping[str, Iterable[int | float]]) -> bytes:
    """A JSON array with one text per row, itself an object of JSON. All columns are equally long and finite. Pure.

    Twice as fast as making the rows and encoding them: numbers have nothing to escape, and keys are escaped once.
    """
    numbers = [_encoder.encode(column)[1:-1].decode().split(",") for column in columns.values()]
    row = '"{' + ",".join(f"{_escaped_twice(key)}:%s" for key in columns) + '}"'
    if not numbers or numbers[0] == [""]:
        return b"[]"
    return f"[{','.join(map(row.__mod__, zip(*numbers, strict=True)))}]".encode()


def _escaped_twice(key: str) -> str:
    """The key as JSON within a text of JSON, for a template."""
    return _encoder.encode(_encoder.encode(key).decode())[1:-1].decode().replace("%", "%%")
