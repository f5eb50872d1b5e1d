"""Write the coverage table of docs/dialects/wandb.md from the dialect's own table of operations.

python scripts/coverage_wandb.py              write it
python scripts/coverage_wandb.py --check      say whether it is up to date
python scripts/coverage_wandb.py --clients ENVIRONMENT
                                              list operations of the client installed in a virtual environment that
                                              the table does not have: from the strings of its Python modules and of
                                              its Go program
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from labkeep.dialects import Covered
from labkeep.dialects.wandb import DIALECT
from labkeep.dialects.wandb.surface import OPERATIONS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "dialects" / "wandb.md"
BEGIN, END = "<!-- coverage: written by scripts/coverage_wandb.py -->", "<!-- end of coverage -->"
_OPERATION = re.compile(r"^\s*(?:#graphql\s*)?(query|mutation)\s+(\w+)\s*[({]", re.MULTILINE)


def table(operations: Sequence[Covered]) -> str:
    """A line for each group: how many of its operations work, which do, which do not."""
    lines = ["| group | works | offered | refused with 501 |", "|---|---|---|---|"]
    for group, members in groupby(operations, key=lambda operation: operation.group):
        known = list(members)
        offered = [operation for operation in known if operation.supported]
        refused = [operation for operation in known if not operation.supported]
        lines.append(f"| {group} | {len(offered)} of {len(known)} | {_listed(offered)} | {_listed(refused)} |")
    works = sum(operation.supported for operation in operations)
    return "\n".join([*lines, "", f"{works} of {len(operations)} operations work."])


def _listed(operations: Sequence[Covered]) -> str:
    return ", ".join(f"`{operation.path.partition(' (')[0]}`" for operation in operations) or "none"


def page(text: str) -> str:
    """``text`` with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(DIALECT.surface)}\n{END}{after}"


def client_operations(environment: Path) -> Iterator[tuple[str, str]]:
    """Kind and name of every document of the client."""
    for package in environment.glob("lib/python*/site-packages/wandb"):
        for source in package.rglob("*.py"):
            for node in ast.walk(ast.parse(source.read_text(encoding="utf-8", errors="replace"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and "{" in node.value:
                    yield from _OPERATION.findall(node.value)
        for kind, name in re.findall(
            rb"\n(query|mutation) (\w+)\s*[({]", (package / "bin" / "wandb-core").read_bytes()
        ):
            yield kind.decode(), name.decode()


def main() -> int:
    """Exit code 0 when the page is up to date (or was written), and the table has all that the client has."""
    parser = argparse.ArgumentParser(description="The coverage table of the W&B dialect.")
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    parser.add_argument("--clients", type=Path, metavar="ENVIRONMENT", help="virtual environment with the client")
    arguments = parser.parse_args()
    if arguments.clients is not None:
        known = {(kind, name) for operations in OPERATIONS.values() for kind, name, _ in operations}
        missing = sorted(set(client_operations(arguments.clients)) - known)
        print("\n".join(" ".join(found) for found in missing) or "the table has every operation")
        return 1 if missing else 0
    written = PAGE.read_text(encoding="utf-8")
    if arguments.check:
        if page(written) != written:
            print(f"{PAGE.name} is out of date: run scripts/coverage_wandb.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(page(written), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
