"""CLIENT: braintrust-api (async).  CRUD with concurrency."""

import asyncio
import os
import uuid

from braintrust_api import APIStatusError, AsyncBraintrust

MISSING = {int(x) for x in os.environ.get("EXPECT_MISSING", "403").split(",")}
tag = uuid.uuid4().hex[:8]


async def main():
    async with AsyncBraintrust(
        api_key=os.environ["BRAINTRUST_API_KEY"], base_url=os.environ["BRAINTRUST_BASE_URL"]
    ) as c:
        ps = await asyncio.gather(*[c.projects.create(name=f"s11-{tag}") for _ in range(8)])
        assert len({p.id for p in ps}) == 1, "concurrent creates of one name yield one project"
        p = ps[0]
        es = await asyncio.gather(
            *[c.experiments.create(project_id=p.id, name=f"e{i}", metadata={"i": i}) for i in range(20)]
        )
        assert len({e.id for e in es}) == 20
        assert {e.id async for e in c.experiments.list(project_id=p.id, limit=6)} == {e.id for e in es}
        dup = await asyncio.gather(
            *[c.experiments.create(project_id=p.id, name="same", ensure_new=True) for _ in range(6)]
        )
        assert len({d.id for d in dup}) == 6 and len({d.name for d in dup}) == 6, [d.name for d in dup]
        ups = await asyncio.gather(
            *[c.experiments.update(e.id, description=f"d{i}", metadata={"k": {"v": i}}) for i, e in enumerate(es)]
        )
        assert all(u.description == f"d{i}" and u.metadata == {"i": i, "k": {"v": i}} for i, u in enumerate(ups))
        await asyncio.gather(
            *[
                c.experiments.insert(es[0].id, events=[{"id": f"{w}-{j}", "input": j} for j in range(25)])
                for w in range(8)
            ]
        )
        f = await c.experiments.fetch_post(es[0].id, limit=1000)
        assert len({x.id for x in f.events}) == 200
        await asyncio.gather(
            *[
                c.experiments.insert(es[1].id, events=[{"id": "ctr", "_is_merge": True, "metadata": {f"w{w}": w}}])
                for w in range(16)
            ]
        )
        f = await c.experiments.fetch_post(es[1].id)
        assert len(f.events) == 1 and dict(f.events[0].metadata) == {f"w{w}": w for w in range(16)}, (
            "concurrent merges must not lose updates"
        )
        ds = await c.datasets.create(project_id=p.id, name="d")
        await c.datasets.insert(ds.id, events=[{"input": 1, "expected": 2}])
        assert (await c.datasets.summarize(ds.id, summarize_data=True)).data_summary.total_records == 1
        dels = await asyncio.gather(*[c.experiments.delete(e.id) for e in es])
        assert all(d.deleted_at is not None for d in dels)
        try:
            await c.experiments.retrieve(es[0].id)
            raise SystemExit("GET after DELETE succeeded")
        except APIStatusError as e:
            assert e.status_code in MISSING, e.status_code
        assert {e.id async for e in c.experiments.list(project_id=p.id)} == {d.id for d in dup}
        print("OK s11")


asyncio.run(main())
