"""WANDB_MODE=offline run, then `wandb sync <dir>`; history, config, artifact and files arrive."""

import os
import subprocess
import sys
import time
from pathlib import Path

from _scratch import ENTITY, done, uniq

code = r"""
import wandb, os, sys
run = wandb.init(project=sys.argv[1], entity=os.environ.get("WANDB_ENTITY") or None, config={"o": 1}, tags=["off"], name="offline-run")
for i in range(50): run.log({"x": i})
open("f.txt","w").write("data"); run.save("f.txt")
a = wandb.Artifact("offart", type="dataset"); a.add_file("f.txt"); run.log_artifact(a)
run.summary["s"] = "v"; print("RUNID", run.id); run.finish()
"""
proj = uniq("s07")
env = dict(os.environ, WANDB_MODE="offline")
p = subprocess.run([sys.executable, "-c", code, proj], env=env, capture_output=True, text=True, timeout=120)
assert p.returncode == 0, p.stderr
rid = [line.split()[1] for line in p.stdout.splitlines() if line.startswith("RUNID")][0]
dirs = [str(found) for found in Path(os.environ["WANDB_DIR"]).glob("wandb/offline-run-*")]
assert len(dirs) == 1, dirs
wb = str(Path(sys.executable).parent / "wandb")
t = time.time()
env2 = {k: v for k, v in os.environ.items() if k != "WANDB_SILENT"}
p = subprocess.run([wb, "sync", dirs[0]], env=env2, capture_output=True, text=True, timeout=180)
t_sync = time.time() - t
print("sync rc", p.returncode, "|", (p.stdout + p.stderr).strip().replace("\n", " / ")[-300:])
assert p.returncode == 0
import wandb

api = wandb.Api()
ent = ENTITY or api.default_entity
r = api.run(f"{ent}/{proj}/{rid}")
assert (
    r.state == "finished"
    and r.config == {"o": 1}
    and r.summary["x"] == 49
    and r.summary["s"] == "v"
    and r.tags == ["off"]
    and r.name == "offline-run"
)
assert [h["x"] for h in r.scan_history()] == list(range(50))
assert "f.txt" in [f.name for f in r.files()] and [a.name for a in r.logged_artifacts()] == ["offart:v0"]
p = subprocess.run([wb, "sync", dirs[0]], env=env2, capture_output=True, text=True, timeout=180)
print("re-sync rc", p.returncode)
assert [h["x"] for h in wandb.Api().run(f"{ent}/{proj}/{rid}").scan_history()] == list(range(50)), (
    "re-sync must be idempotent"
)
done("s07", sync_s=f"{t_sync:.2f}")
