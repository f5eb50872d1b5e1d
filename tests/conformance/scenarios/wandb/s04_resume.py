"""resume='must' / 'allow' / 'never', history offsets, summary and config carry over."""

import os
import sys

from _scratch import ENTITY, done, uniq

# isort: split
import wandb

proj = uniq("s04")
run = wandb.init(
    project=proj, entity=ENTITY, config={"a": 1}, tags=["t"], notes="n", name="orig", resume="allow", id=uniq("rid")
)
assert run.resumed is False
for i in range(10):
    run.log({"x": i})
rid, ent = run.id, run.entity
run.finish()
P = f"{ent}/{proj}/{rid}"
r2 = wandb.init(project=proj, entity=ent, id=rid, resume="must", config={"b": 2})
assert r2.resumed and r2.starting_step == 10, (
    r2.resumed,
    r2.starting_step,
)  # NB run.step stays 0 until the first log() (client quirk)
assert (
    r2.summary["x"] == 9
    and r2.config["a"] == 1
    and r2.config["b"] == 2
    and r2.name == "orig"
    and tuple(r2.tags) == ("t",)
    and r2.notes == "n"
)
assert wandb.Api().run(P).state == "running"
for i in range(10, 20):
    r2.log({"x": i})
r2.finish()
r = wandb.Api().run(P)
rows = list(r.scan_history())
assert [h["x"] for h in rows] == list(range(20)) and [h["_step"] for h in rows] == list(range(20)), rows[:3]
assert r.state == "finished" and r.summary["x"] == 19 and r.config == {"a": 1, "b": 2}
r3 = wandb.init(project=proj, entity=ent, id=rid, resume="allow")
assert r3.resumed and r3.starting_step == 20
r3.log({"x": 20}, step=25)
r3.finish()
assert wandb.Api().run(P).lastHistoryStep == 25
try:
    wandb.init(project=proj, entity=ent, id=uniq("nope"), resume="must")
    raise SystemExit("must on missing run should fail")
except wandb.errors.UsageError as e:
    print("must+missing ->", str(e)[:80])
try:
    wandb.init(project=proj, entity=ent, id=rid, resume="never")
    raise SystemExit("never on existing run should fail")
except wandb.errors.UsageError as e:
    print("never+existing ->", str(e)[:80])
# same id without resume=, in a fresh process (a failed init keeps the id "in use" inside the same wandb-core process)
import subprocess

code = "import wandb,sys; r=wandb.init(project=sys.argv[1],entity=sys.argv[2],id=sys.argv[3]); print('resumed',r.resumed,'starting_step',r.starting_step); r.log({'x':-1}); r.finish()"
p = subprocess.run(
    [sys.executable, "-c", code, proj, ent, rid],
    env={k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"},
    capture_output=True,
    text=True,
    timeout=60,
)
print("same id, no resume:", p.stdout.strip(), p.stderr.strip()[-200:])
rows = [(h["_step"], h["x"]) for h in wandb.Api().run(P).scan_history()]
print("rows after:", len(rows), rows[:3], rows[-2:])
done("s04")
