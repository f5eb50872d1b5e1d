"""CLIENT: braintrust.  init(); log 500 rows; flush; fetch everything back and compare field by field."""

import os
import uuid

BASE = os.environ["BRAINTRUST_BASE_URL"].rstrip("/")
os.environ.setdefault("BRAINTRUST_APP_URL", BASE)
os.environ.setdefault("BRAINTRUST_API_URL", BASE)
import braintrust

tag = uuid.uuid4().hex[:8]
exp = braintrust.init(
    project=f"s02-{tag}",
    experiment=f"s02-exp-{tag}",
    metadata={"a": {"b": 1}},
    tags=["t1", "t2"],
    description="desc",
    is_public=False,
)
assert (
    exp.data["metadata"] == {"a": {"b": 1}} and exp.data["tags"] == ["t1", "t2"] and exp.data["description"] == "desc"
)
assert exp.data["public"] is False and exp.data["deleted_at"] is None and exp.data["created"]
want = {}
for i in range(500):
    row = {
        "input": {
            "q": f'question {i} — ünïcødé 漢字 \u2028 "quoted" \\',
            "n": i,
            "nested": {"l": [1, 2.5, None, True, {"x": []}]},
        },
        "output": [f"out{i}", {"v": i / 7}],
        "expected": None if i % 3 else {"e": i},
        "scores": {"acc": (i % 11) / 10, "flag": i % 2},
        "metadata": {"i": i, "s": "x" * (i % 50), "empty": {}, "none": None},
        "tags": [f"g{i % 5}"],
        "metrics": {"tokens": i, "cost": 0.001 * i},
    }
    rid = exp.log(id=f"row-{i:04d}", **row)
    assert rid == f"row-{i:04d}"
    want[rid] = row
exp.flush()
got = {}
for e in exp.fetch(batch_size=64):
    assert e["id"] not in got, "duplicate row across pages: " + e["id"]
    got[e["id"]] = e
assert set(got) == set(want), (len(got), len(want))
for rid, w in want.items():
    g = got[rid]
    for k in ("input", "output", "expected", "scores", "metadata", "tags"):
        assert g.get(k) == w[k], (rid, k, g.get(k), w[k])
    for k, v in w["metrics"].items():
        assert g["metrics"][k] == v, (rid, k)
    assert g["metrics"]["end"] >= g["metrics"]["start"]
    assert g["span_id"] and g["root_span_id"] and not g.get("span_parents") and g.get("is_root") in (True, None)
    assert g["experiment_id"] == exp.id and g["project_id"] == exp.project.id
    assert isinstance(g["_xact_id"], str) and g["_xact_id"].isdigit() and g["created"]
    assert g["span_attributes"]["type"] == "eval" and g["span_attributes"]["name"] == "root"
# all _xact_id strings must have the same width: the client takes max() over STRINGS to compute a version
assert len({len(g["_xact_id"]) for g in got.values()}) == 1
ro = braintrust.init(project=f"s02-{tag}", experiment=f"s02-exp-{tag}", open=True)
assert ro.id == exp.id
assert len(list(ro.fetch(batch_size=100))) == 500
same = braintrust.init(project=f"s02-{tag}", experiment=f"s02-exp-{tag}", update=True)
assert same.id == exp.id, "update=True must reopen the existing experiment"
try:
    braintrust.init(project=f"s02-{tag}", experiment="does-not-exist", open=True).id
    raise SystemExit("open=True on a missing experiment must fail")
except ValueError as e:
    assert "not found" in str(e)
print("OK s02 500 rows")
