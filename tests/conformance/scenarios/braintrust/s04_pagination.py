"""CLIENT: braintrust-api.  Object list pagination (starting_after / ending_before / limit / ids) and event cursors."""

import os
import uuid

from braintrust_api import Braintrust

c = Braintrust(api_key=os.environ["BRAINTRUST_API_KEY"], base_url=os.environ["BRAINTRUST_BASE_URL"])
tag = uuid.uuid4().hex[:8]
p = c.projects.create(name=f"s04-{tag}")
made = [c.experiments.create(project_id=p.id, name=f"e{i:02d}").id for i in range(25)]
newest_first = made[::-1]
assert [x.id for x in c.experiments.list(project_id=p.id, limit=10)] == newest_first, (
    "auto-pagination over 3 pages keeps order, no dups"
)
p1 = c.experiments.list(project_id=p.id, limit=10)
assert [x.id for x in p1.objects] == newest_first[:10]
p2 = c.experiments.list(project_id=p.id, limit=10, starting_after=p1.objects[-1].id)
assert [x.id for x in p2.objects] == newest_first[10:20]
p3 = p2.get_next_page()
assert [x.id for x in p3.objects] == newest_first[20:]
p4 = p3.get_next_page()
assert p4.objects == [] and not p4.has_next_page(), "page after the last is an empty list, 200"
back = c.experiments.list(project_id=p.id, limit=10, ending_before=p3.objects[0].id)
assert [x.id for x in back.objects] == newest_first[10:20], (
    "ending_before returns the page immediately before, same order"
)
assert [x.id for x in c.experiments.list(project_id=p.id, limit=10, ending_before=newest_first[0]).objects] == []
assert len(c.experiments.list(project_id=p.id).objects) == 25, "default limit >= 25 (spec: 1000)"
assert {x.id for x in c.experiments.list(ids=made[3:6])} == set(made[3:6])
assert {x.id for x in c.experiments.list(ids=made[3])} == {made[3]}
# deleting in the middle of a walk must not break the cursor
pg = c.experiments.list(project_id=p.id, limit=5)
c.experiments.delete(pg.objects[-1].id)
nxt = pg.get_next_page()
assert [x.id for x in nxt.objects] == newest_first[5:10], "cursor id of a just-deleted object still positions the walk"
# event pagination: limit counts traces; pages are newest first; the cursor is opaque
e = c.experiments.create(project_id=p.id, name="rows")
ids = []
for b in range(4):
    ids += c.experiments.insert(e.id, events=[{"id": f"r{b}-{j}", "input": b * 10 + j} for j in range(10)]).row_ids
seen, cur, pages = [], None, 0
while True:
    r = c.experiments.fetch_post(e.id, limit=7, **({"cursor": cur} if cur else {}))
    assert len(r.events) <= 7
    seen += [x.id for x in r.events]
    pages += 1
    cur = r.cursor
    if not cur:
        break
    assert pages < 20
assert len(seen) == len(set(seen)) == 40 and set(seen) == set(ids)
assert {s[:2] for s in seen[:10]} == {"r3"} and {s[:2] for s in seen[-10:]} == {"r0"}, "latest transaction first"
g = c.experiments.fetch(e.id, limit=3)
assert [x.id for x in g.events] == seen[:3], "GET form equals POST form"
# limit counts traces, not rows
c.experiments.insert(
    e.id,
    events=[{"id": "t-root", "span_id": "S0", "root_span_id": "S0", "input": "root"}]
    + [
        {"id": f"t-{k}", "span_id": f"S{k}", "root_span_id": "S0", "span_parents": ["S0"], "input": k}
        for k in (1, 2, 3)
    ],
)
assert {x.id for x in c.experiments.fetch_post(e.id, limit=1).events} == {"t-root", "t-1", "t-2", "t-3"}
# reading at an older version
v = max(x.xact_id for x in c.experiments.fetch_post(e.id, limit=1000).events if x.id.startswith("r1"))
old = c.experiments.fetch_post(e.id, limit=1000, version=v)
assert {x.id[:2] for x in old.events} == {"r0", "r1"}, "version filters on _xact_id"
print("OK s04", pages, "event pages")
