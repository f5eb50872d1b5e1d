"""init, log 1000 steps, finish, then wandb.Api() reads summary, history, scan_history, config."""

import time

from _scratch import ENTITY, done, uniq

# isort: split
import wandb

proj = uniq("s01")
t = time.time()
run = wandb.init(
    project=proj,
    entity=ENTITY,
    name="first",
    group="g1",
    job_type="train",
    tags=["a", "b"],
    notes="hello notes",
    config={"lr": 0.1, "nested": {"x": 1, "y": [1, 2, 3]}, "name": "cfg"},
)
t_init = time.time() - t
assert run.entity and run.project == proj and run.id
run.define_metric("val/acc", summary="max")
run.define_metric("val/*", step_metric="epoch")
t = time.time()
for i in range(1000):
    d = {"loss": 1.0 / (i + 1), "i": i}
    if i % 100 == 0:
        d.update({"val/acc": 0.9 if i == 500 else i / 2000, "epoch": i // 100})
    if i == 3:
        d["weird"] = float("nan")
    if i == 4:
        d["weird"] = float("inf")
    run.log(d)
t_log = time.time() - t
run.summary["best"] = 42
run.config.update({"added_later": "yes"})
t = time.time()
run.finish()
t_fin = time.time() - t
path = f"{run.entity}/{run.project}/{run.id}"
t = time.time()
api = wandb.Api()
r = api.run(path)
assert r.state == "finished", r.state
assert (
    r.name == "first"
    and r.group == "g1"
    and r.job_type == "train"
    and sorted(r.tags) == ["a", "b"]
    and r.notes == "hello notes"
)
assert r.config["lr"] == 0.1 and r.config["nested"] == {"x": 1, "y": [1, 2, 3]} and r.config["added_later"] == "yes", (
    r.config
)
assert not any(k.startswith("_") for k in r.config)
assert r.summary["i"] == 999 and r.summary["best"] == 42 and abs(r.summary["loss"] - 0.001) < 1e-12
assert r.summary["val/acc"] == {"max": 0.9} or r.summary["val/acc"]["max"] == 0.9, r.summary["val/acc"]
assert r.lastHistoryStep == 999
h = r.history(samples=100, pandas=False)
assert 0 < len(h) <= 100 and "loss" in h[0]
h = r.history(keys=["loss"], samples=2000, pandas=False)
assert len(h) == 1000 and h[10]["_step"] == 10 and abs(h[10]["loss"] - 1 / 11) < 1e-12
rows = list(r.scan_history())
assert len(rows) == 1000 and [x["_step"] for x in rows] == list(range(1000))
assert rows[999]["i"] == 999 and "_timestamp" in rows[0] and "_runtime" in rows[0]
w3, w4 = rows[3]["weird"], rows[4]["weird"]
print("nan/inf as read back by scan_history:", repr(w3), repr(w4))
rows = list(r.scan_history(keys=["loss", "val/acc"], page_size=300))
assert len(rows) == 10 and rows[5]["val/acc"] == 0.9, len(rows)
rows = list(r.scan_history(keys=["i"], min_step=100, max_step=110))
assert [x["i"] for x in rows] == list(range(100, 110)), rows
assert [x.id for x in api.runs(f"{run.entity}/{proj}")] == [run.id]
assert proj in [p.name for p in api.projects(run.entity)]
assert api.project(proj, run.entity).id
try:
    api.run(f"{run.entity}/{proj}/doesnotexist")
    raise SystemExit("expected error for missing run")
except wandb.errors.CommError as e:
    print("missing run ->", type(e).__name__, e)
except ValueError as e:
    print("missing run ->", type(e).__name__, e)
t_read = time.time() - t
done("s01", init_s=f"{t_init:.2f}", log1000_s=f"{t_log:.3f}", finish_s=f"{t_fin:.2f}", read_s=f"{t_read:.2f}")
