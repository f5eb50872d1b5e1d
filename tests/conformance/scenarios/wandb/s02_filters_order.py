"""api.runs(): filter language, ordering, pagination, len()."""

from _scratch import ENTITY, done, uniq

# isort: split
import wandb

proj = uniq("s02")
ids = {}
for i in range(6):
    run = wandb.init(
        project=proj,
        entity=ENTITY,
        name=f"exp-{i}",
        group="even" if i % 2 == 0 else "odd",
        job_type="t",
        tags=[f"t{i}", "common"] if i else [],
        config={
            "lr": 10**-i,
            "batch": i * 16,
            "model": {"depth": i, "kind": "cnn" if i < 3 else "vit"},
            "dotted.key": i,
            "name": f"n{i}",
            "flag": i % 2 == 0,
        },
    )
    run.log({"loss": 1.0 - i / 10, "acc": i / 10})
    if i == 5:
        run.summary["extra"] = "only5"
    ent = run.entity
    ids[run.id] = i
    run.finish(exit_code=1 if i == 4 else 0)
P = f"{ent}/{proj}"
api = wandb.Api()


def q(f=None, **kw):
    return [ids[r.id] for r in wandb.Api().runs(P, filters=f, **kw)]


S = lambda f: sorted(q(f))
checks = [
    ({}, [0, 1, 2, 3, 4, 5]),
    ({"state": "failed"}, [4]),
    ({"state": "finished"}, [0, 1, 2, 3, 5]),
    ({"state": {"$ne": "finished"}}, [4]),
    ({"config.batch": 32}, [2]),
    ({"config.batch.value": 32}, [2]),
    ({"config.model.kind": "vit"}, [3, 4, 5]),
    ({"config.model.value.depth": {"$lte": 1}}, [0, 1]),
    ({"config.dotted.key": 3}, [3]),
    ({"config.flag": True}, [0, 2, 4]),
    ({"summary_metrics.acc": {"$gt": 0.25, "$lt": 0.45}}, [3, 4]),
    ({"summary_metrics.acc": {"$gte": 0.4}}, [4, 5]),
    ({"summary_metrics.extra": {"$exists": True}}, [5]),
    ({"summary_metrics.extra": {"$exists": False}}, [0, 1, 2, 3, 4]),
    ({"summary_metrics.extra": None}, [0, 1, 2, 3, 4]),
    ({"tags": "common"}, [1, 2, 3, 4, 5]),
    ({"tags": {"$in": ["t1", "t3"]}}, [1, 3]),
    ({"tags": {"$nin": ["common"]}}, [0]),
    ({"tags": {"$ne": "t1"}}, [0, 2, 3, 4, 5]),
    ({"$and": [{"tags": "common"}, {"tags": "t2"}]}, [2]),
    ({"display_name": "exp-3"}, [3]),
    ({"displayName": "exp-3"}, [3]),
    ({"display_name": {"$regex": "^exp-[12]$"}}, [1, 2]),
    ({"name": [k for k, v in ids.items() if v == 1][0]}, [1]),
    ({"name": {"$in": [k for k, v in ids.items() if v > 3]}}, [4, 5]),
    ({"group": "odd"}, [1, 3, 5]),
    ({"jobType": "t"}, [0, 1, 2, 3, 4, 5]),
    ({"username": api.viewer.username}, [0, 1, 2, 3, 4, 5]),
    ({"$or": [{"config.batch": 0}, {"$and": [{"group": "odd"}, {"state": "finished"}]}]}, [0, 1, 3, 5]),
    ({"$nor": [{"group": "odd"}, {"config.batch": 0}]}, [2, 4]),
    ({"config.batch": {"$not": {"$gte": 32}}}, [0, 1]),
    ({"created_at": {"$gt": "2001-01-01T00:00:00Z"}}, [0, 1, 2, 3, 4, 5]),
    ({"createdAt": {"$lt": "2001-01-01"}}, []),
    ({"created_at": {"$gt": "2001-01-01", "$lt": "2100-01-01T00:00:00"}}, [0, 1, 2, 3, 4, 5]),
    ({"config.name": {"$regex": "n[45]"}}, [4, 5]),
]
bad = 0
for f, want in checks:
    try:
        got = S(f)
    except Exception as e:
        got = repr(e)[:120]
    if got != want:
        bad += 1
        print("MISMATCH", f, "got", got, "want", want)
for order, want in [
    ("+created_at", [0, 1, 2, 3, 4, 5]),
    ("-created_at", [5, 4, 3, 2, 1, 0]),
    (None, [0, 1, 2, 3, 4, 5]),
    ("+summary_metrics.loss", [5, 4, 3, 2, 1, 0]),
    ("-summary_metrics.acc", [5, 4, 3, 2, 1, 0]),
    ("+config.lr.value", [5, 4, 3, 2, 1, 0]),
    ("-config.batch.value", [5, 4, 3, 2, 1, 0]),
    ("-heartbeat_at", [5, 4, 3, 2, 1, 0]),
    ("+display_name", [0, 1, 2, 3, 4, 5]),
]:
    got = q({}, order=order)
    if got != want:
        bad += 1
        print("ORDER MISMATCH", order, got, want)
runs = wandb.Api().runs(P, per_page=2, order="+created_at")
assert len(runs) == 6 and [ids[r.id] for r in runs] == [0, 1, 2, 3, 4, 5]
assert [ids[r.id] for r in wandb.Api().runs(P, per_page=2)[1:4]] == [1, 2, 3]
full = wandb.Api().runs(P, lazy=False, filters={"config.batch": {"$gte": 64}})
assert [r.config["batch"] for r in full] == [64, 80] and [round(r.summary["acc"], 3) for r in full] == [0.4, 0.5]
assert len(wandb.Api().runs(P, filters={"state": "nope"})) == 0
try:
    list(wandb.Api().runs(f"{ent}/{uniq('nosuchproject')}"))
    bad += 1
    print("missing project should raise")
except Exception as e:
    print("missing project ->", type(e).__name__, e)
assert bad == 0, f"{bad} mismatches"
done("s02", checks=len(checks))
