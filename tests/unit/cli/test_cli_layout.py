from __future__ import annotations

import pytest
from rich.cells import cell_len

from labkeep.cli.layout import LEAST, aligned, fits

ID = "0199f0a1-7c3e-7d10-8a52-6f1e2b9c4d77"


def _lines(width: int, monkeypatch: pytest.MonkeyPatch, name: str = "baseline") -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    titles = ("NAME", "COUNT", "ID")
    rows = [(name, "7", ID), ("b", "1234", ID)]
    return list(aligned(titles, rows, whole=(False, False, True), right=(False, True, False), header=True))


def test_columns_stand_side_by_side_and_numbers_at_the_right(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _lines(80, monkeypatch) == [
        "NAME      COUNT  ID",
        f"baseline      7  {ID}",
        f"b          1234  {ID}",
    ]


@pytest.mark.parametrize("width", [20, 52, 60, 79, 80, 300])
def test_an_id_is_never_cut_however_narrow_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(line.endswith(ID) for line in _lines(width, monkeypatch, "a very long name " * 9)[1:])


def test_what_is_widest_is_cut_first(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _lines(80, monkeypatch, "a very long name " * 9)
    assert all(cell_len(line) <= 80 for line in lines)
    assert "…" in lines[1]


def test_characters_of_two_cells_keep_columns_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _lines(80, monkeypatch, "数字识别")
    assert {cell_len(line.partition(ID)[0]) for line in lines[1:]} == {17}


def test_a_column_keeps_a_few_cells() -> None:
    assert fits(["N"], [["x" * 50]], [False], 3) == [LEAST]
    assert fits(["N"], [["xy"]], [False], 1) == [2]
