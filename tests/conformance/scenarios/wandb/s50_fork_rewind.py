"""fork_from and resume_from: a run that begins with another's history, and one that goes on from an earlier step."""

import math
import os
import subprocess
import sys

from _scratch import ENTITY, done, uniq

# isort: split
import wandb

proj = uniq("s50")
base = wandb.init(project=proj, entity=ENTITY, id=uniq("base"), name="base", config={"lr": 0.1}, tags=["t"])
for step in range(20):
    base.log({"loss": 1 / (step + 1), "deep": {"a": step, "b": f"s{step}"}, "nan": math.nan if step == 3 else step})
base.log({"late": 7, "loss": 0.0})
base.finish()
ent, P = base.entity, f"{base.entity}/{proj}"


def rows(run_id, *keys):
    return [tuple(row.get(key) for key in keys) for row in wandb.Api().run(f"{P}/{run_id}").scan_history()]


before = rows(base.id, "_step", "loss", "deep.b", "late")
assert len(before) == 21, before

# --- fork: the beginning of the base, then its own
fork = wandb.init(project=proj, entity=ent, id=uniq("fork"), fork_from=f"{base.id}?_step=9", config={"lr": 0.2})
assert fork.id != base.id
for n in range(5):
    fork.log({"loss": 100 + n})
fork.finish()
got = rows(fork.id, "_step", "loss", "deep.b")
want = [(s, 1 / (s + 1), f"s{s}") for s in range(10)] + [(10 + n, 100 + n, None) for n in range(5)]
assert got == want, got
seen = wandb.Api().run(f"{P}/{fork.id}")
assert seen.state == "finished" and seen.config["lr"] == 0.2, (seen.state, seen.config)
assert seen.summary["loss"] == 104 and seen.summary["_step"] == 14, dict(seen.summary)
assert seen.summary["deep"]["b"] == "s9" and "late" not in seen.summary, dict(seen.summary)
assert seen.lastHistoryStep == 14
assert math.isnan(rows(fork.id, "nan")[3][0])
assert rows(base.id, "_step", "loss", "deep.b", "late") == before, "the base was touched"
assert seen.history(keys=["loss"], pandas=False)[-1]["loss"] == 104

# --- a fork of the fork, at its last step: all of it
again = wandb.init(project=proj, entity=ent, id=uniq("again"), fork_from=f"{fork.id}?_step=14")
again.log({"loss": -1})
again.finish()
assert rows(again.id, "_step", "loss") == [(s, loss) for s, loss, _ in want] + [(15, -1)]

# --- rewind: the same run goes on from an earlier step
back = wandb.init(project=proj, entity=ent, id=base.id, resume_from=f"{base.id}?_step=4")
assert back.id == base.id
for n in range(3):
    back.log({"loss": -10 - n})
back.finish()
got = rows(base.id, "_step", "loss", "deep.b", "late")
assert got == before[:5] + [(5 + n, -10 - n, None, None) for n in range(3)], got
seen = wandb.Api().run(f"{P}/{base.id}")
assert seen.state == "finished" and seen.config["lr"] == 0.1 and seen.name == "base" and seen.tags == ["t"]
assert seen.summary["loss"] == -12 and seen.summary["_step"] == 7 and "late" not in seen.summary, dict(seen.summary)
assert seen.summary["deep"]["a"] == 4
assert len(rows(fork.id, "_step")) == 15, "the fork was touched"

# --- what the rewind took away is kept, out of the way
assert sorted(run.id for run in wandb.Api().runs(P)) == sorted([base.id, fork.id, again.id])
assert rows(f"{base.id}-before-rewind-1", "_step", "loss", "deep.b", "late") == before

# --- what cannot be; in processes of their own, because a start that failed leaves the client in disorder
CODE = """
import os, sys, wandb
try:
    wandb.init(project=sys.argv[1], entity=sys.argv[2], fork_from=sys.argv[3])
except wandb.errors.CommError as error:
    print("refused:", error, flush=True)
os._exit(0)
"""
for what, why in ((f"{base.id}?_step=99", "has no step 99"), (f"{uniq('none')}?_step=1", "not found")):
    child = subprocess.run(
        [sys.executable, "-c", CODE, proj, ent, what],
        env={name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "refused:" in child.stdout and why in child.stdout, (what, child.stdout, child.stderr[-500:])
done("s50")
