"""Write the coverage table of docs/dialects/braintrust.md from the dialect's own table of operations.

python scripts/coverage_braintrust.py              write it
python scripts/coverage_braintrust.py --check      say whether it is up to date
python scripts/coverage_braintrust.py --clients ENVIRONMENT
                                                   list operations of the clients installed in a virtual
                                                   environment that the table does not have
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from labkeep.dialects import Covered
from labkeep.dialects.braintrust import DIALECT

PAGE = Path(__file__).resolve().parent.parent / "docs" / "dialects" / "braintrust.md"
BEGIN, END = "<!-- coverage: written by scripts/coverage_braintrust.py -->", "<!-- end of coverage -->"


def table(operations: Sequence[Covered]) -> str:
    """A line for each group: how many of its operations work, which do, which do not."""
    lines = ["| group | works | offered | refused with 501 |", "|---|---|---|---|"]
    ordered = sorted(operations, key=lambda operation: operation.group)
    for group, members in groupby(ordered, key=lambda operation: operation.group):
        known = list(members)
        offered = [operation for operation in known if operation.supported]
        refused = [operation for operation in known if not operation.supported]
        lines.append(f"| {group} | {len(offered)} of {len(known)} | {_listed(offered)} | {_listed(refused)} |")
    works = sum(operation.supported for operation in operations)
    return "\n".join([*lines, "", f"{works} of {len(operations)} operations work."])


def _listed(operations: Sequence[Covered]) -> str:
    """Paths with their methods: ``GET POST /v1/view``."""
    methods: dict[str, list[str]] = {}
    for operation in operations:
        methods.setdefault(operation.path, []).append(operation.method)
    return "<br>".join(f"`{' '.join(verbs)} {path}`" for path, verbs in methods.items()) or "none"


def page(text: str) -> str:
    """``text`` with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(DIALECT.surface)}\n{END}{after}"


def shape(method: str, path: str) -> tuple[str, str]:
    """An operation whatever its parameters are called."""
    return method, re.sub(r"\{[^}]*\}", "{}", path)


def client_operations(environment: Path) -> Iterator[tuple[str, str]]:
    """Method and path of every operation in the sources of the two clients."""
    for source in environment.glob("lib/python*/site-packages/braintrust/api/_generated/*.py"):
        yield from re.findall(r'method="(\w+)",\s*path="([^"]+)"', source.read_text())
    for source in environment.glob("lib/python*/site-packages/braintrust_api/resources/**/*.py"):
        for verb, path in re.findall(
            r'self\._(get|post|put|patch|delete|get_api_list)\(\s*f?"([^"]+)"', source.read_text()
        ):
            yield "GET" if verb == "get_api_list" else verb.upper(), path


def main() -> int:
    """Exit code 0 when the page is up to date (or was written), and the table has all that the clients have."""
    parser = argparse.ArgumentParser(description="The coverage table of the Braintrust dialect.")
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    parser.add_argument("--clients", type=Path, metavar="ENVIRONMENT", help="virtual environment with the clients")
    arguments = parser.parse_args()
    if arguments.clients is not None:
        known = {shape(operation.method, operation.path) for operation in DIALECT.surface}
        missing = sorted({shape(*found) for found in client_operations(arguments.clients)} - known)
        print("\n".join(f"{method} {path}" for method, path in missing) or "the table has every operation")
        return 1 if missing else 0
    written = PAGE.read_text(encoding="utf-8")
    if arguments.check:
        if page(written) != written:
            print(f"{PAGE.name} is out of date: run scripts/coverage_braintrust.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(page(written), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
