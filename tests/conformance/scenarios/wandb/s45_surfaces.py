"""What surrounds logging: defined metrics, modes, variables, code, a progress bar, preempting, many offline runs, the CLI."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from _scratch import ENTITY, SCRATCH, T0, done, uniq, wait_for

# isort: split
import wandb

WANDB = str(Path(sys.executable).parent / "wandb")
proj = uniq("s45")
env = {name: value for name, value in os.environ.items() if name != "WANDB_SILENT"}


def cli(*words, ok=True):
    print(f"{time.time() - T0:.1f} s:", *words[:2], flush=True)
    ran = subprocess.run([WANDB, *words], env=env, capture_output=True, text=True, timeout=120, cwd=SCRATCH)
    assert (ran.returncode == 0) == ok, (words, ran.stdout + ran.stderr)
    return ran.stdout + ran.stderr


# --- defined metrics: steps of their own, summaries by rule, by glob
run = wandb.init(project=proj, entity=ENTITY)
run.define_metric("epoch", hidden=True)
run.define_metric("val/*", step_metric="epoch")
run.define_metric("val/acc", step_metric="epoch", summary="max")
run.define_metric("loss", summary="min,mean,last")
run.define_metric("quiet", summary="none")
for step, (loss, acc) in enumerate([(3.0, 0.1), (1.0, 0.9), (2.0, 0.5)]):
    run.log({"epoch": step * 10, "loss": loss, "val/acc": acc, "val/other": step, "quiet": step})
run.mark_preempting()
P = f"{run.entity}/{proj}"
wait_for(lambda: wandb.Api().run(f"{P}/{run.id}").state in ("preempting", "running"), "a state", 30)
run.finish()
seen = wandb.Api().run(f"{P}/{run.id}")
assert seen.state == "finished", seen.state
summary = json.loads(json.dumps(seen.summary._json_dict))
assert summary["val/acc"] == {"max": 0.9}, summary
assert summary["loss"] == {"min": 1.0, "mean": 2.0, "last": 2.0} and "quiet" not in summary
assert [row["val/other"] for row in seen.scan_history(keys=["epoch", "val/other"])] == [0, 1, 2]
defined = (
    seen.rawconfig["_wandb"]["m"] if "m" in seen.rawconfig.get("_wandb", {}) else seen.rawconfig["_wandb"]["value"]["m"]
)
assert len(defined) >= 4, defined

# --- variables, code, a progress bar that writes over its line
script = SCRATCH / "train.py"
script.write_text(
    """
import sys, time, wandb
from pathlib import Path
run = wandb.init(save_code=True)
run.log_code(str(Path(__file__).parent), include_fn=lambda path: path.endswith("train.py"))
for number in range(5):
    sys.stderr.write(f"\\r{number * 25:3}%|{'#' * number}| {number}/4")
    sys.stderr.flush()
sys.stderr.write("\\n")
print("done at last")
run.finish()
"""
)
variables = {
    "WANDB_PROJECT": proj,
    "WANDB_RUN_GROUP": "from variables",
    "WANDB_JOB_TYPE": "train",
    "WANDB_TAGS": "a,b",
    "WANDB_NOTES": "noted",
    "WANDB_NAME": "named",
    "WANDB_RUN_ID": "fixed-id",
    "WANDB_CONSOLE": "wrap",
}
ran = subprocess.run([sys.executable, str(script)], env=env | variables, capture_output=True, text=True, timeout=90)
assert ran.returncode == 0, ran.stderr
seen = wandb.Api().run(f"{P}/fixed-id")
assert (seen.name, seen.group, seen.job_type, seen.notes) == ("named", "from variables", "train", "noted")
assert sorted(seen.tags) == ["a", "b"]
names = [f.name for f in seen.files()]
assert any(name.startswith("code/") and name.endswith("train.py") for name in names), names
[code] = [a for a in seen.logged_artifacts() if a.type == "code"]
assert "train.py" in code.manifest.entries, code.manifest.entries
lines = [line.content for line in seen.console_logs()]
assert lines[0] == "100%|####| 4/4" and lines[-1] == "done at last", lines
assert seen.file("output.log").download(root=str(SCRATCH / "log")).read().count("%|") == 1

# --- modes: nothing leaves, or it leaves later, in one go, and again without a second copy
with wandb.init(project=proj, mode="disabled") as nothing:
    nothing.log({"x": 1})
offline = []
for number in range(3):
    with wandb.init(project=proj, settings=wandb.Settings(mode="offline"), name=f"offline {number}") as later:
        later.log({"x": number})
        offline.append(later.id)
assert len(wandb.Api().runs(P)) == 2
folders = sorted((Path(os.environ["WANDB_DIR"]) / "wandb").glob("offline-run-*"))
assert len(folders) == 3, folders
said = cli("sync", *map(str, folders))
assert sorted(r.name for r in wandb.Api().runs(P, filters={"displayName": {"$regex": "^offline"}})) == [
    f"offline {number}" for number in range(3)
], said
said = cli("sync", *map(str, folders))  # what was sent is not sent again
for number, id in enumerate(offline):
    synced = wandb.Api().run(f"{P}/{id}")
    assert [row["x"] for row in synced.scan_history()] == [number] and synced.state == "finished", said

# --- sweeps by the command line
(SCRATCH / "train2.py").write_text("import wandb\nwith wandb.init() as run:\n    run.log({'y': run.config['x'] * 2})\n")
(SCRATCH / "sweep.yaml").write_text(
    f"program: train2.py\nmethod: grid\nparameters:\n  x:\n    values: [2]\ncommand: ['{sys.executable}', '${{program}}']\n"
)
said = cli("sweep", "--project", proj, str(SCRATCH / "sweep.yaml"))
sweep = re.sub(r"\x1b\[[0-9;]*m", "", said).split("wandb agent ")[1].split()[0].split("/")[-1]
said = cli("agent", "--project", proj, sweep)
runs = wandb.Api().sweep(f"{P}/{sweep}").runs
assert [r.summary["y"] for r in runs] == [4], said

# --- what there is not says so
said = cli("job", "list", "--project", proj, "--entity", run.entity, ok=True)
print("job list ->", said.strip()[-200:])
said = cli("launch", "--job", f"{P}/job:latest", "--project", proj, "--entity", run.entity, "--queue", "q", ok=False)
print("launch ->", said.strip()[-300:])
assert "not supported by this server" in said or "not found" in said, said
done("s45")
