"""CLIENT: braintrust + braintrust-api.  init_logger writes; the REST client reads /v1/project_logs/{id}/fetch."""

import os
import uuid

BASE = os.environ["BRAINTRUST_BASE_URL"].rstrip("/")
os.environ.setdefault("BRAINTRUST_APP_URL", BASE)
os.environ.setdefault("BRAINTRUST_API_URL", BASE)
import braintrust
from braintrust_api import Braintrust

tag = uuid.uuid4().hex[:8]
lg = braintrust.init_logger(project=f"s09-{tag}")
ids = [lg.log(input=f"q{i}", output=f"a{i}", scores={"ok": i % 2}, metadata={"i": i}, tags=["prod"]) for i in range(50)]
lg.flush()
c = Braintrust(api_key=os.environ["BRAINTRUST_API_KEY"], base_url=BASE)
r = c.projects.logs.fetch_post(lg.id, limit=1000)
got = {e.id: e for e in r.events}
assert set(got) == set(ids)
e = got[ids[7]]
assert (
    e.input == "q7"
    and e.output == "a7"
    and e.scores == {"ok": 1}
    and dict(e.metadata) == {"i": 7}
    and e.log_id == "g"
    and e.project_id == lg.id
    and e.org_id
)
assert e.span_attributes.type == "task" and e.span_attributes.name == "root"
with lg.start_span(name="req", input="x") as sp:
    with sp.start_span(name="child") as ch:
        ch.log(output=1)
    sp.log(output="y")
lg.log_feedback(id=ids[0], scores={"thumb": 1}, comment="good", expected="E", metadata={"u": 1})
lg.flush()
r = c.projects.logs.fetch_post(lg.id, limit=1000)
got = {e.id: e for e in r.events}
assert len(got) == 52 and got[ids[0]].scores == {"ok": 0, "thumb": 1} and got[ids[0]].expected == "E"
ch = next(e for e in r.events if e.span_attributes.name == "child")
assert ch.root_span_id == got[sp.id].root_span_id and ch.span_parents == [got[sp.id].span_id]
assert c.projects.logs.insert(lg.id, events=[{"id": "rest-row", "input": 1}]).row_ids == ["rest-row"]
assert (
    c.projects.logs.feedback(lg.id, feedback=[{"id": "rest-row", "scores": {"s": 0.5}, "comment": "hey"}]).status
    == "success"
)
seen, cur = [], None
while True:
    pg = c.projects.logs.fetch_post(lg.id, limit=10, **({"cursor": cur} if cur else {}))
    seen += [e.id for e in pg.events]
    cur = pg.cursor
    if not cur:
        break
assert len(seen) == len(set(seen)) == 53, len(seen)
x = c.top_level.with_raw_response.hello_world()
assert x.status_code == 200
again = braintrust.init_logger(project_id=lg.id, set_current=False)
assert again.project.name == f"s09-{tag}"
# project logs and experiments of the same project are separate tables
assert list(c.experiments.list(project_id=lg.id)) == []
print("OK s09", len(seen))
