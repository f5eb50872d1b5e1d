"""CLIENT: braintrust.  init_dataset / insert / update / delete / version pinning / summarize / Eval over a dataset."""

import os
import uuid

BASE = os.environ["BRAINTRUST_BASE_URL"].rstrip("/")
os.environ.setdefault("BRAINTRUST_APP_URL", BASE)
os.environ.setdefault("BRAINTRUST_API_URL", BASE)
import braintrust
from braintrust import Eval, init_dataset

tag = uuid.uuid4().hex[:8]
P, D = f"s05-{tag}", f"ds-{tag}"
opn = lambda **k: init_dataset(project=P, name=D, **k)
ds = opn(description="first", metadata={"k": "v"})
assert ds.data["description"] == "first" and ds.data["metadata"] == {"k": "v"} and ds.data["name"] == D
assert list(ds) == [] and opn().version == "0"
for i in range(10):
    ds.insert(id=f"d{i}", input={"q": i}, expected=i * i, tags=["t"], metadata={"i": i, "m": {"a": 1}})
ds.flush()
assert len(list(ds)) == 10
v1 = ds.version
assert v1.isdigit() and int(v1) > 0
ds.update("d0", expected="changed", metadata={"m": {"b": 2}}, tags=["u"])
ds.insert(id="d1", input={"q": "replaced"}, expected="R")  # upsert replaces the whole row
ds.delete("d9")
ds.insert(id="d10", input={"q": 10}, expected=100)
ds.flush()
assert ds.summarize().data_summary.total_records == 10
cur = {r["id"]: r for r in opn()}
assert set(cur) == {f"d{i}" for i in range(11)} - {"d9"}, set(cur)
assert cur["d0"]["expected"] == "changed" and cur["d0"]["input"] == {"q": 0}
assert cur["d0"]["metadata"] == {"i": 0, "m": {"a": 1, "b": 2}}, "update is a deep merge"
assert sorted(cur["d0"]["tags"]) == ["t", "u"], "tags merge as a set union"
assert cur["d1"]["input"] == {"q": "replaced"} and not cur["d1"].get("metadata") and not cur["d1"].get("tags"), cur[
    "d1"
]
v2 = opn().version
assert int(v2) > int(v1)
old = {r["id"]: r for r in opn(version=v1)}
assert (
    set(old) == {f"d{i}" for i in range(10)}
    and old["d0"]["expected"] == 0
    and old["d0"]["tags"] == ["t"]
    and old["d1"]["expected"] == 1
)
assert opn(version=v1).version == v1
assert {r["id"] for r in opn(version=v2)} == set(cur)
assert {r["id"] for r in opn(version=int(v1)).fetch(batch_size=3)} == set(old), "pinned + paginated"
same = init_dataset(dataset_id=ds.id)
assert same.id == ds.id and same.project.name == P and len(list(same)) == 10
assert opn().id == ds.id and opn(description="IGNORED").data["description"] == "first", (
    "re-registering returns the existing dataset unmodified"
)
# Eval over a pinned dataset: experiment carries dataset_id/dataset_version, rows carry origin
r = Eval(
    P,
    data=opn(version=v1),
    task=lambda q: q["q"] ** 2 if isinstance(q["q"], int) else None,
    scores=[lambda input, output, expected: 1.0 if output == expected else 0.0],
)
assert len(r.results) == 10 and list(r.summary.scores.values())[0].score == 1.0
x = braintrust.init(project=P, experiment=r.summary.experiment_name, open=True)
info = x.state.api_client().experiments.get_experiment_id(x.id)
assert info["dataset_id"] == ds.id and info["dataset_version"] == v1, info
roots = [e for e in x if not e.get("span_parents")]
assert {e["origin"]["id"] for e in roots} == set(old) and all(
    e["origin"]["object_id"] == ds.id and e["origin"]["object_type"] == "dataset" for e in roots
)
print("OK s05", v1, v2)
