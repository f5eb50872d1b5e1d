"""The table of operations, and the page that is made from it."""

from __future__ import annotations

from labkeep.dialects.braintrust import DIALECT
from labkeep.dialects.braintrust.routes import HANDLERS
from scripts.coverage_braintrust import PAGE, page, shape


def test_the_page_has_the_table_as_it_is() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run scripts/coverage_braintrust.py"


def test_an_operation_is_in_the_table_once() -> None:
    shapes = [shape(operation.method, operation.path) for operation in DIALECT.surface]
    assert len(shapes) == len(set(shapes))


def test_every_handler_is_in_the_table() -> None:
    known = {shape(operation.method, operation.path) for operation in DIALECT.surface if operation.supported}
    assert {shape(method, path) for method, path, _ in HANDLERS} == known
