"""Write the client for threads, `labkeep.client._sync`, from the one for asyncio, `labkeep.client._async`.

    python scripts/unasync.py            write what differs
    python scripts/unasync.py --check    write nothing; fail when something differs

A substitution that is never used is an error, so that this list stays as short as it can be.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).resolve().parent.parent / "src" / "labkeep" / "client"
SOURCE = CLIENT / "_async"
TARGET = CLIENT / "_sync"

NOTE = "# Generated from labkeep/client/_async/{name} by scripts/unasync.py: change that file instead.\n"

SUBSTITUTIONS: list[tuple[str, str]] = [
    (r"labkeep\.client\.http_async", "labkeep.client.http"),
    (r"labkeep\.client\._async", "labkeep.client._sync"),
    (r"from collections\.abc import AsyncIterator", "from collections.abc import Iterator"),
    (r"async_pause", "pause"),
    (r"AwaitedPages", "LoadedPages"),
    (r"AsyncIterator", "Iterator"),
    (r"Async([A-Z]\w*)", r"\1"),
    (r"async (def|for|with) ", r"\1 "),
    (r"\bawait ", ""),
    (r"__aenter__", "__enter__"),
    (r"__aexit__", "__exit__"),
    (r"__aiter__", "__iter__"),
]


def main() -> int:
    """Write or check every file; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="fail when a file differs, and write nothing")
    check = parser.parse_args().check
    used: set[str] = set()
    wanted = {path.name: generate(path, used) for path in sorted(SOURCE.glob("*.py"))}
    unused = [pattern for pattern, _ in SUBSTITUTIONS if pattern not in used]
    if unused:
        print(f"substitutions that nothing uses: {unused}", file=sys.stderr)
        return 1
    existing = {path.name: path.read_text("utf-8") for path in TARGET.glob("*.py")}
    differing = sorted(name for name in wanted.keys() | existing.keys() if wanted.get(name) != existing.get(name))
    if check and differing:
        print(
            f"{TARGET.relative_to(CLIENT.parent)} is not what {SOURCE.name} says: {', '.join(differing)}",
            file=sys.stderr,
        )
        return 1
    for name in [] if check else differing:
        if name in wanted:
            (TARGET / name).write_text(wanted[name], "utf-8")
        else:
            (TARGET / name).unlink()
    return 0


def generate(path: Path, used: set[str]) -> str:
    """The text for threads of one source file; notes in ``used`` which substitutions it needed."""
    text = path.read_text("utf-8")
    for pattern, replacement in SUBSTITUTIONS:
        text, count = re.subn(pattern, replacement, text)
        if count:
            used.add(pattern)
    return formatted(NOTE.format(name=path.name) + text, TARGET / path.name)


def formatted(text: str, path: Path) -> str:
    """``text`` as `make format` would leave it: other names sort differently, and shorter lines join."""
    fixes = ["check", "--fix", "--exit-zero", "--unsafe-fixes", "--select=I001,UP028"]
    for command in (fixes, ["format"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--quiet", f"--stdin-filename={path}", "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    raise SystemExit(main())
