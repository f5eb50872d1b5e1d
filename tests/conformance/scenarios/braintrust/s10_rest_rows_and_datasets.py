"""CLIENT: braintrust-api.  Datasets and rows over REST: edit, insert into several objects at once, feedback, deletion."""

import os
import uuid

from braintrust_api import APIStatusError, Braintrust

c = Braintrust(api_key=os.environ["BRAINTRUST_API_KEY"], base_url=os.environ["BRAINTRUST_BASE_URL"], max_retries=0)
tag = uuid.uuid4().hex[:8]
p = c.projects.create(name=f"s10-{tag}")
renamed = c.projects.update(p.id, name=f"s10-{tag}-renamed")
assert renamed.id == p.id and c.projects.retrieve(p.id).name == f"s10-{tag}-renamed"
assert [x.id for x in c.projects.list(project_name=f"s10-{tag}-renamed")] == [p.id]

d = c.datasets.create(project_id=p.id, name="d", description="first", metadata={"a": {"x": 1}})
assert c.datasets.with_raw_response.create(project_id=p.id, name="d").headers["x-bt-found-existing"] == "true"
u = c.datasets.update(d.id, description="second", metadata={"a": {"y": 2}})
assert u.description == "second" and u.metadata == {"a": {"x": 1, "y": 2}}
assert [x.id for x in c.datasets.list(project_id=p.id, dataset_name="d")] == [d.id]
assert [x.id for x in c.datasets.list(ids=[d.id])] == [d.id]

e = c.experiments.create(project_id=p.id, name="e", dataset_id=d.id)
assert c.experiments.retrieve(e.id).dataset_id == d.id
r = c.top_level.with_raw_response.hello_world()
assert r.status_code == 200
made = c.post(
    "/v1/insert",
    cast_to=object,
    body={
        "experiment": {e.id: {"events": [{"id": "r1", "input": 1}], "feedback": [{"id": "r1", "scores": {"s": 1}}]}},
        "dataset": {d.id: {"events": [{"id": "i1", "input": 1, "expected": 2}, {"input": 3}]}},
        "project_logs": {p.id: {"events": [{"id": "l1", "input": "q"}]}},
    },
)
assert made["experiment"][e.id]["row_ids"] == ["r1"] and len(made["dataset"][d.id]["row_ids"]) == 2, made
assert c.experiments.fetch_post(e.id).events[0].scores == {"s": 1}
assert {x.id for x in c.projects.logs.fetch_post(p.id).events} == {"l1"}
items = c.datasets.fetch_post(d.id).events
assert {x.input for x in items} == {1, 3} and all(x.dataset_id == d.id and x.project_id == p.id for x in items)
assert (
    c.datasets.feedback(d.id, feedback=[{"id": "i1", "comment": "odd", "metadata": {"by": "ada"}}]).status == "success"
)
s = c.datasets.summarize(d.id, summarize_data=True)
assert s.data_summary.total_records == 2 and s.dataset_name == "d" and s.project_name == renamed.name
x = c.experiments.summarize(e.id, summarize_scores=True)
assert x.scores["s"].score == 1 and x.experiment_name == "e" and x.experiment_url.startswith("http")
assert c.experiments.summarize(e.id).scores is None

gone = c.datasets.delete(d.id)
assert gone.deleted_at is not None and list(c.datasets.list(project_id=p.id)) == []
for call in (
    lambda: c.datasets.retrieve(d.id),
    lambda: c.datasets.delete(d.id),
    lambda: c.datasets.update(d.id, description="x"),
    lambda: c.datasets.insert(d.id, events=[{"input": 1}]),
    lambda: c.datasets.fetch_post(d.id),
    lambda: c.datasets.summarize(d.id),
):
    try:
        call()
    except APIStatusError as error:
        assert error.status_code in (400, 403, 404), error.status_code
    else:
        raise SystemExit("a deleted dataset answered")
assert c.experiments.retrieve(e.id).dataset_id == d.id, "an experiment remembers a dataset that is gone"
try:
    c.acls.list(object_id=p.id, object_type="project")
except APIStatusError as error:
    assert error.status_code == 501, error.status_code
else:
    raise SystemExit("what is not offered answered")
print("OK s10")
