"""The rules of the house that a linter does not know, each as one sentence.

The patterns are written so that they do not match their own source: a letter in brackets stands for itself.
"""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "labkeep"
MAKEFILE = ROOT / "Makefile"

REGISTRY_HOST = re.compile(
    r"[p]ypi\.(?:org|python)|[p]ythonhosted\.org|[r]egistry\.(?:npmjs|yarnpkg)|[p]roxy\.golang\.org|"
    r"(?:[d]eb|[s]ecurity|[f]tp)\.debian\.org|[c]onda\.anaconda\.org|[i]ndex\.crates\.io|[-]-(?:extra-)?index-url[ =]"
)
MACHINE_PATH = re.compile(r"(?<![\w.)}])/(?:[r]oot|[w]ork|[h]ome/\w+|[U]sers/\w+|[o]pt/(?:pypi|wheels))/")
OPEN_END = re.compile(r"\b(?:[T]ODO|[F]IXME|[X]XX|[H]ACK)\b")
SKIPPED_TEST = re.compile(
    r"pytest\.(?:mark\.)?(?:[s]kip|[s]kipif|[x]fail|[i]mportorskip)\b|unittest\.[s]kip|[S]kipTest"
)
# Other broad forms (a bare except, BaseException) that do not raise again are refused by ruff.
BROAD_EXCEPT = re.compile(r"^\s*except\s*\(?\s*Exception\b")
PINNED = re.compile(r"^[a-z0-9][a-z0-9._-]*==[^\s;]+(?: ; .+)?$")
FORBIDDEN_MODULES = {"utils", "util", "common", "helpers", "helper", "misc", "base", "manager", "managers"}
BINARY = {".pyc", ".png", ".ico", ".jpg", ".gif", ".woff2", ".gz", ".parquet", ".db"}


def _tracked() -> list[Path]:
    """Every file that git knows or would add; the whole tree where there is no git (an unpacked archive)."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names: Iterable[str] = listing.stdout.split("\0") if listing.returncode == 0 else _tree()
    files = [ROOT / name for name in names if name]
    return sorted(file for file in files if file.is_file() and file.suffix not in BINARY)


def _tree() -> Iterator[str]:
    own = ("src", "tests", "docs", "scripts", "requirements", ".ci")
    yield from (str(path.relative_to(ROOT)) for folder in own for path in (ROOT / folder).rglob("*"))
    yield from (path.name for path in ROOT.iterdir() if path.is_file())


TRACKED = _tracked()
MODULES = [file for file in TRACKED if file.suffix == ".py" and PACKAGE in file.parents]
TESTS = [file for file in TRACKED if file.suffix == ".py" and ROOT / "tests" in file.parents]
SCRIPTS = [file for file in TRACKED if ROOT / "scripts" in file.parents]


def _hits(pattern: re.Pattern[str], files: Iterable[Path]) -> list[str]:
    """`file:line: text` for every line that the pattern matches."""
    return [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for file in files
        for number, line in enumerate(file.read_text("utf-8", errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def _dependencies() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    wanted = [Requirement(line) for line in project["dependencies"] + extras]
    return [requirement for requirement in wanted if requirement.name != "labkeep"]


def _pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    pairs = [line.partition(" ;")[0].split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(package): version for package, version in pairs}


def test_no_file_names_a_package_registry() -> None:
    assert _hits(REGISTRY_HOST, TRACKED) == []


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    assert _hits(MACHINE_PATH, TRACKED) == []


def test_no_file_has_an_open_end() -> None:
    assert _hits(OPEN_END, [*MODULES, *TESTS, *SCRIPTS, MAKEFILE]) == []


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    assert _hits(SKIPPED_TEST, TESTS) == []


def test_a_module_is_named_for_what_it_holds() -> None:
    parts = {(file, part) for file in [*MODULES, *TESTS] for part in (file.stem.strip("_"), *file.parent.parts)}
    assert sorted(str(file.relative_to(ROOT)) for file, part in parts if part in FORBIDDEN_MODULES) == []


def test_a_broad_except_says_why_on_its_line() -> None:
    broad = _hits(BROAD_EXCEPT, [*MODULES, *SCRIPTS])
    assert [line for line in broad if not re.search(r":\s*#.*\w{3}", line.split("except", 1)[1])] == []


def test_a_public_module_says_what_it_holds() -> None:
    public = [file for file in MODULES if file.name == "__init__.py" or not file.name.startswith("_")]
    trees = {str(file.relative_to(ROOT)): ast.parse(file.read_text()) for file in public}
    assert [name for name, tree in trees.items() if tree.body and not ast.get_docstring(tree)] == []


def test_every_make_target_has_a_help_line() -> None:
    text = MAKEFILE.read_text()
    phony = set(re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE))
    helped = set(re.findall(r"^([a-z-]+):.*? ## \S", text, re.MULTILINE))
    assert phony == helped


def test_make_alone_lists_every_target() -> None:
    listed = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in listed.splitlines()} == set(
        re.findall(r"^\.PHONY: (.+)$", MAKEFILE.read_text(), re.MULTILINE)
    )


def test_ci_has_no_logic_of_its_own() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111, "it has to be executable"
    assert script.read_text().splitlines()[-1] == "exec make test"


@pytest.mark.parametrize("file", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda file: file.name)
def test_a_requirements_file_holds_exact_pins_and_nothing_else(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not PINNED.match(line)] == []


def test_every_dependency_is_pinned_to_a_version_that_it_allows() -> None:
    pins = _pins("dev.txt")
    unmet = {
        str(requirement): pins.get(canonicalize_name(requirement.name), "not pinned")
        for requirement in _dependencies()
        if not requirement.specifier.contains(pins.get(canonicalize_name(requirement.name), "0"), prereleases=True)
    }
    assert unmet == {}


def test_the_server_runs_on_the_versions_that_are_tested() -> None:
    assert _pins("server.txt").items() <= _pins("dev.txt").items()


def test_the_package_and_the_changelog_agree_on_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version
    assert f'__version__ = "{version}"' in (PACKAGE / "__init__.py").read_text()


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    decisions = sorted(file.name for file in folder.glob("[0-9]*.md"))
    linked = re.findall(r"\]\((\d{4}-[^)]+\.md)\)", (folder / "README.md").read_text())
    assert sorted(linked) == decisions
    assert [int(name[:4]) for name in decisions] == list(range(1, len(decisions) + 1))


def test_every_link_between_the_documents_leads_somewhere() -> None:
    pages = [file for file in TRACKED if file.suffix == ".md"]
    links = [(page, target) for page in pages for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())]
    local = [(page, target) for page, target in links if "://" not in target]
    assert [f"{page.relative_to(ROOT)}: {to}" for page, to in local if not (page.parent / to).exists()] == []
