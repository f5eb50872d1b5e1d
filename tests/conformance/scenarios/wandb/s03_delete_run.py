"""run.delete(): gone from api.run(), api.runs(), len(); other runs stay; while it can be restored, nothing gets its id."""

import time

from _scratch import ENTITY, done, uniq

# isort: split
import wandb

proj = uniq("s03")
runs = []
for i in range(3):
    run = wandb.init(project=proj, entity=ENTITY, config={"i": i})
    run.log({"x": i})
    run.finish()
    runs.append(run)
ent = runs[0].entity
P = f"{ent}/{proj}"
api = wandb.Api()
victim = api.run(f"{P}/{runs[1].id}")
assert victim.config["i"] == 1
victim.delete()
api = wandb.Api()
try:
    api.run(f"{P}/{runs[1].id}")
    raise SystemExit("deleted run is still readable")
except (wandb.errors.CommError, ValueError) as e:
    print("after delete:", type(e).__name__, e)
left = api.runs(P)
assert sorted(r.id for r in left) == sorted([runs[0].id, runs[2].id]) and len(left) == 2
try:
    victim.delete()
    print("second delete: no error")
except Exception as e:
    print("second delete:", type(e).__name__, e)
try:
    list(victim.scan_history())
    print("scan_history on deleted run: no error")
except Exception as e:
    print("scan_history on deleted run:", type(e).__name__, str(e)[:100])
started = time.time()
try:
    wandb.init(project=proj, entity=ENTITY, id=runs[1].id, settings=wandb.Settings(init_timeout=20))
    raise SystemExit("a new run has the id of one that can still be restored")
except wandb.errors.CommError as e:
    print("id reuse:", type(e).__name__, e)
    assert time.time() - started < 10, "a refusal that the client sends again until its time is up"
    assert "once that run is purged" in str(e) and "restorable until" in str(e), e
assert len(wandb.Api().runs(P)) == 2
done("s03")
