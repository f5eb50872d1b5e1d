"""WANDB_MODE=offline run, then `wandb sync <dir>`, and again: history, config, artifact and files arrive, once."""

import os
import subprocess
import sys
import time
from pathlib import Path

import requests
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


def counts():
    """What is on the server: rows that a scan finds, and lines as the server counts them."""
    run = wandb.Api().run(f"{ent}/{proj}/{rid}")
    assert [h["x"] for h in run.scan_history()] == list(range(50)), "re-sync must be idempotent"
    assert run.state == "finished" and run.summary["x"] == 49
    lines = (
        f'{{ project(name: "{proj}") {{ run(name: "{rid}") {{ historyLineCount eventsLineCount logLineCount }} }} }}'
    )
    reply = requests.post(
        os.environ["WANDB_BASE_URL"] + "/graphql",
        json={"query": lines},
        auth=("api", os.environ["WANDB_API_KEY"]),
        timeout=30,
    )
    return reply.json()["data"]["project"]["run"]


first = counts()
assert first["historyLineCount"] == 50, first
# what has been sent is not sent again, but when that is asked for
for more in ([], ["--include-synced"], ["--include-synced"]):
    p = subprocess.run([wb, "sync", *more, dirs[0]], env=env2, capture_output=True, text=True, timeout=180)
    print("re-sync", *more, "rc", p.returncode)
    assert p.returncode == 0, p.stderr
    assert counts() == first, (counts(), first)
done("s07", sync_s=f"{t_sync:.2f}")
