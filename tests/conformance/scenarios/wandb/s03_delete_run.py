"""run.delete(): gone from api.run(), api.runs(), len(); other runs stay; its short id is free for a new run."""

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
sid = victim.storage_id
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
run = wandb.init(project=proj, entity=ENTITY, id=runs[1].id, settings=wandb.Settings(init_timeout=20))
run.finish()
again = wandb.Api().run(f"{P}/{runs[1].id}")
assert again.storage_id != sid and "i" not in again.config and list(again.scan_history()) == []
assert len(wandb.Api().runs(P)) == 3
done("s03")
