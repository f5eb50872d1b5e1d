"""CLIENT: braintrust.  _is_merge / _merge_paths / _array_delete / _object_delete, update_span, log_feedback."""

import os
import uuid

BASE = os.environ["BRAINTRUST_BASE_URL"].rstrip("/")
os.environ.setdefault("BRAINTRUST_APP_URL", BASE)
os.environ.setdefault("BRAINTRUST_API_URL", BASE)
import braintrust

tag = uuid.uuid4().hex[:8]
e = braintrust.init(project=f"s07-{tag}", experiment="x")
rid = e.log(
    input={"a": 1, "d": {"x": 1, "y": 2}},
    output="o",
    expected="old",
    scores={"acc": 0.1, "keep": 1},
    metadata={"m": {"k": 1}},
    tags=["t1"],
    id="row1",
)
e.flush()
rows = lambda: {r["id"]: r for r in braintrust.init(project=f"s07-{tag}", experiment="x", open=True)}
r0 = rows()["row1"]
# update_span = merge across flushes
e.update_span("row1", metadata={"m": {"j": 2}, "n": 1}, output={"new": True})
e.flush()
r = rows()["row1"]
assert (
    r["metadata"] == {"m": {"k": 1, "j": 2}, "n": 1} and r["output"] == {"new": True} and r["input"] == r0["input"]
), r
assert r["created"] == r0["created"] and r["span_id"] == r0["span_id"], "created/span ids survive merges"
assert int(r["_xact_id"]) > int(r0["_xact_id"]), "a merge gets a new transaction id"
# feedback
e.log_feedback(
    "row1",
    scores={"human": 1, "acc": 0.9},
    expected="new",
    tags=["t2"],
    comment="nice one",
    metadata={"user": "u1"},
    source="app",
)
e.flush()
rs = rows()
assert set(rs) == {"row1"}, f"the comment record must not show up as a row: {set(rs)}"
r = rs["row1"]
assert (
    r["scores"] == {"acc": 0.9, "keep": 1, "human": 1} and r["expected"] == "new" and sorted(r["tags"]) == ["t1", "t2"]
), r
assert "user" not in (r["metadata"] or {}) and r["metadata"]["n"] == 1, "feedback metadata is audit metadata"
assert "_is_merge" not in r and "_audit_source" not in r
if "nice one" not in str(r.get("comments")):
    print("WARN: comment text not returned in event.comments")
# wire-level semantics through the bundled REST client
ins = lambda *ev: e.state.api_client().experiments.post_experiment_id_insert(e.id, body={"events": list(ev)})
assert ins({"id": "foo", "input": {"a": 5, "b": 10}})["row_ids"] == ["foo"]
ins({"id": "foo", "_is_merge": True, "input": {"b": 11, "c": 20}})
assert rows()["foo"]["input"] == {"a": 5, "b": 11, "c": 20}
ins({"id": "foo", "input": {"b": 11, "c": 20}})
assert rows()["foo"]["input"] == {"b": 11, "c": 20}, "without _is_merge the row is replaced"
ins({"id": "mp", "input": {"a": {"b": 10}, "c": {"d": 20}}, "output": {"a": 20}})
ins(
    {
        "id": "mp",
        "_is_merge": True,
        "_merge_paths": [["input", "a"], ["output"]],
        "input": {"a": {"q": 30}, "c": {"e": 30}, "bar": "baz"},
        "output": {"d": 40},
    }
)
r = rows()["mp"]
assert r["input"] == {"a": {"q": 30}, "c": {"d": 20, "e": 30}, "bar": "baz"} and r["output"] == {"d": 40}, r
ins({"id": "ad", "tags": ["foo", "bar", "keep"], "metadata": {"categories": ["v", "w"]}})
ins(
    {
        "id": "ad",
        "_is_merge": True,
        "_array_delete": [
            {"path": ["tags"], "delete": ["foo", "bar"]},
            {"path": ["metadata", "categories"], "delete": ["v"]},
        ],
    }
)
r = rows()["ad"]
assert r["tags"] == ["keep"] and r["metadata"]["categories"] == ["w"], r
ins({"id": "ghost", "_is_merge": True, "input": 1})
assert rows()["ghost"]["input"] == 1, "merging into nothing inserts"
ins({"id": "mp", "_object_delete": True})
assert "mp" not in rows()
n = ins({"input": "no id"})["row_ids"]
assert len(n) == 1 and n[0] in rows(), "server generates ids"
fb = e.state.api_client().experiments.post_experiment_id_feedback(
    e.id, body={"feedback": [{"id": "foo", "scores": {"s": 0.25}, "comment": "c"}]}
)
assert fb == {"status": "success"} and rows()["foo"]["scores"] == {"s": 0.25}
print("OK s07")
