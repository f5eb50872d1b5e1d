"""Labkeep in a minute, in a folder that is gone afterwards: log three runs, compare them, trash, restore, purge, audit.

python scripts/demo.py [FOLDER]     with FOLDER, what was logged stays there; look at it with `labkeep serve --data FOLDER`
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path

import labkeep

PROJECT = "digits"
STEPS = 500


def say(heading: str) -> None:
    """A heading between the scenes."""
    print(f"\n== {heading} ==")


def train(folder: Path, name: str, lr: float) -> None:
    """A run whose loss falls faster, and wobbles more, the higher the learning rate is."""
    with labkeep.init(PROJECT, name=name, config={"lr": lr, "layers": 3}, tags=["demo"], dir=folder, quiet=True) as run:
        for step in range(STEPS):
            loss = math.exp(-lr * step / 20) + lr * abs(math.sin(step)) / 4
            run.log({"loss": loss, "accuracy": 1 - loss / 2})
        run.summary["best_accuracy"] = round(1 - loss / 2, 4)


def show_runs(client: labkeep.Labkeep) -> None:
    """The project's runs, the best first."""
    for run in client.runs.list(PROJECT, order="summary.best_accuracy desc"):
        print(f"{run.name:<10} {run.status:<9} lr {run.config['lr']:<5} accuracy {run.summary['best_accuracy']:.4f}")


def play(folder: Path) -> None:
    """Every scene, against a store in ``folder``."""
    say("log three runs")
    for name, lr in {"careful": 0.05, "steady": 0.2, "hasty": 1.5}.items():
        train(folder, name, lr)
    with labkeep.Labkeep.local(folder) as client:
        show_runs(client)
        best = next(iter(client.runs.list(PROJECT, order="summary.best_accuracy desc", limit=1)))
        for series in client.runs.metrics(best.id):
            print(f"{best.name}: {series.count} points of {series.key}, from {series.first:.3f} to {series.last:.3f}")
        trash_and_restore(client)
        purge(client)
        verify(client)


def trash_and_restore(client: labkeep.Labkeep) -> None:
    """A plan, its application, and the way back."""
    say("plan: trash what learned too fast")
    plan = client.plan("trash", q="config.lr > 1", project=PROJECT)
    until = f"{plan.restorable_until:%Y-%m-%d}" if plan.restorable_until else "purged"
    print(f"goes: {plan.counts}, {plan.bytes} bytes; blocked: {plan.blocked}; can be restored until {until}")
    done = client.apply(plan, reason="the learning rate was a typing error")
    show_runs(client)
    say("restore it, exactly as it was")
    assert done.deletion_id is not None
    client.deletions.restore(done.deletion_id)
    show_runs(client)


def purge(client: labkeep.Labkeep) -> None:
    """Trash again, and this time for good."""
    say("trash it again, and purge")
    done = client.apply("trash", q='name = "hasty"', project=PROJECT, reason="no longer needed")
    assert done.deletion_id is not None
    purged = client.deletions.purge(done.deletion_id, reason="nothing refers to it")
    assert purged.job_id is not None
    job = client.jobs.wait(purged.job_id, timeout_s=60)
    print(f"purge: {job.state}")
    show_runs(client)


def verify(client: labkeep.Labkeep) -> None:
    """What is left of it all: a trail that can be checked."""
    say("the audit trail")
    for event in client.audit.list(limit=20):
        print(f"{event.at:%H:%M:%S}  {event.event:<18} by {event.actor}  {event.reason}")
    report = client.audit.verify()
    print(f"{report.events} events, chain {'intact' if report.intact else f'broken at {report.first_break}'}")


def main() -> int:
    """Play in the folder that was named, or in a temporary one."""
    if len(sys.argv) > 1:
        play(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory(prefix="labkeep-demo-") as folder:
            play(Path(folder))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
