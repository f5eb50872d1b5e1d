"""The coverage table: what it counts, and that the page has it."""

from __future__ import annotations

from labkeep.dialects.wandb import DIALECT
from labkeep.dialects.wandb.surface import OPERATIONS
from scripts.coverage_wandb import PAGE, page


def test_the_page_has_the_table_as_it_is_now() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run scripts/coverage_wandb.py"


def test_no_operation_stands_twice() -> None:
    known = [(kind, name) for operations in OPERATIONS.values() for kind, name, _ in operations]
    assert len(known) == len(set(known))


def test_what_every_program_needs_is_offered() -> None:
    offered = {each.path.partition(" (")[0] for each in DIALECT.surface if each.supported}
    assert {"Viewer", "UpsertBucket", "RunResumeStatus", "CreateRunFiles", "Runs", "HistoryPage"} <= offered
    assert {"CreateArtifact", "CommitArtifact", "UseArtifact", "DeleteRun", "(web) undeleteRuns"} <= offered


def test_the_variables_lead_to_the_prefix() -> None:
    assert DIALECT.environment("https://lab.example/", "lk-key") == {
        "WANDB_BASE_URL": "https://lab.example/wandb",
        "WANDB_API_KEY": "lk-key",
    }
