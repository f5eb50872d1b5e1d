"""CLIENT: braintrust-api.  Experiment create/list/get/patch/delete.
After a delete the REAL service answers GET by id with 403 (recorded in the Go SDK's cassettes), not 404: the OpenAPI spec has no 404 at all.
Set EXPECT_MISSING=404 if the server under test deliberately chose otherwise."""

import os
import uuid

from braintrust_api import APIStatusError, Braintrust

MISSING = {int(x) for x in os.environ.get("EXPECT_MISSING", "403").split(",")}
c = Braintrust(api_key=os.environ["BRAINTRUST_API_KEY"], base_url=os.environ["BRAINTRUST_BASE_URL"], max_retries=0)
tag = uuid.uuid4().hex[:8]


def status(fn):
    try:
        r = fn()
    except APIStatusError as e:
        return e.status_code
    return f"no error: {type(r).__name__}"


p = c.projects.create(name=f"s03-{tag}")
assert p.id and p.name == f"s03-{tag}" and p.deleted_at is None and p.created is not None and p.org_id
assert c.projects.create(name=f"s03-{tag}").id == p.id, "POST project with an existing name returns the existing one"
assert c.projects.with_raw_response.create(name=f"s03-{tag}").headers.get("x-bt-found-existing") == "true"
e = c.experiments.create(
    project_id=p.id,
    name="exp",
    description="d0",
    metadata={"a": 1, "deep": {"x": 1, "y": 2}},
    public=False,
    extra_body={"tags": ["t"]},
)
assert e.project_id == p.id and e.name == "exp" and e.description == "d0" and e.deleted_at is None and e.public is False
assert e.metadata == {"a": 1, "deep": {"x": 1, "y": 2}} and e.tags == ["t"]
again = c.experiments.create(project_id=p.id, name="exp", description="OTHER")
assert again.id == e.id and again.description == "d0", "same name: existing object returned UNMODIFIED"
fresh = c.experiments.create(project_id=p.id, name="exp", ensure_new=True)
assert fresh.id != e.id and fresh.name != "exp" and fresh.name.startswith("exp-"), fresh.name
anon = c.experiments.create(project_id=p.id)
assert anon.name and anon.id
other = c.experiments.create(project_id=p.id, name="other")
# get / list / filters
assert c.experiments.retrieve(e.id).id == e.id
assert {x.id for x in c.experiments.list(project_id=p.id)} == {e.id, fresh.id, anon.id, other.id}
assert [x.id for x in c.experiments.list(project_id=p.id)][0] == other.id, "newest first"
assert [x.id for x in c.experiments.list(project_id=p.id, experiment_name="exp")] == [e.id]
assert [x.id for x in c.experiments.list(project_name=p.name, experiment_name="exp")] == [e.id]
assert {x.id for x in c.experiments.list(ids=[e.id, other.id])} == {e.id, other.id}, "ids=a,b (comma form)"
# patch: deep merge of objects, arrays/scalars replaced, null ignored
u = c.experiments.update(e.id, name="renamed", metadata={"deep": {"y": 3, "z": 4}, "b": None})
assert u.id == e.id and u.name == "renamed" and u.description == "d0"
assert u.metadata["a"] == 1 and u.metadata["deep"] == {"x": 1, "y": 3, "z": 4}, u.metadata
u = c.experiments.update(e.id, description=None, extra_body={"tags": ["n1", "n2"]})
assert u.description == "d0", "PATCH with null must not clear (spec: not supported)"
assert u.tags == ["n1", "n2"]
assert c.experiments.retrieve(e.id).metadata["deep"]["z"] == 4
# rows before deletion
assert c.experiments.insert(e.id, events=[{"id": "r1", "input": 1, "output": 2, "scores": {"s": 0.5}}]).row_ids == [
    "r1"
]
f = c.experiments.fetch_post(e.id, limit=10)
assert (
    [x.id for x in f.events] == ["r1"]
    and f.events[0].scores == {"s": 0.5}
    and f.events[0].span_id == f.events[0].root_span_id
)
# delete
d = c.experiments.delete(e.id)
assert d.id == e.id and d.deleted_at is not None, "DELETE returns the object with deleted_at set"
st = status(lambda: c.experiments.retrieve(e.id))
assert st in MISSING, f"GET after DELETE: {st}, expected {MISSING}"
assert e.id not in {x.id for x in c.experiments.list(project_id=p.id)}
assert list(c.experiments.list(ids=[e.id])) == []
assert list(c.experiments.list(project_id=p.id, experiment_name="renamed")) == []
for name, fn in {
    "patch": lambda: c.experiments.update(e.id, description="z"),
    "delete twice": lambda: c.experiments.delete(e.id),
    "fetch": lambda: c.experiments.fetch_post(e.id),
    "insert": lambda: c.experiments.insert(e.id, events=[{"input": 1}]),
    "summarize": lambda: c.experiments.summarize(e.id),
}.items():
    st = status(fn)
    assert st in (400, 403, 404), f"{name} on a deleted experiment: {st}"
re = c.experiments.create(project_id=p.id, name="renamed")
assert re.id != e.id and re.deleted_at is None, "the name is free again after a delete"
assert [x.id for x in c.experiments.fetch_post(re.id).events] == [], "no rows leak from the deleted namesake"
assert c.experiments.retrieve(other.id).id == other.id, "siblings survive"
# errors
assert status(lambda: c.experiments.retrieve(str(uuid.uuid4()))) in MISSING
assert status(lambda: c.experiments.create(project_id=str(uuid.uuid4()), name="x")) == 400
assert status(lambda: c.experiments.retrieve("not-a-uuid")) == 400
assert status(lambda: c.with_options(api_key="bad").experiments.list()) == 401
# project delete
dp = c.projects.delete(p.id)
assert dp.deleted_at is not None and p.id not in {x.id for x in c.projects.list(project_name=p.name)}
p2 = c.projects.create(name=p.name)
assert p2.id != p.id and list(c.experiments.list(project_id=p2.id)) == []
print("OK s03 (GET after DELETE ->", status(lambda: c.experiments.retrieve(e.id)), ")")
