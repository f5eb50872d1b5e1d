"""run.update() via public API: tags, name, notes, config, summary, group; live run.tags change."""

from _scratch import ENTITY, done, uniq

# isort: split
import wandb

proj = uniq("s08")
run = wandb.init(project=proj, entity=ENTITY, tags=["a"], config={"x": 1, "keep": "k"}, notes="n0", name="n0")
run.log({"m": 1})
run.tags += ("live",)
run.notes = "live notes"
run.name = "live-name"
P = f"{run.entity}/{proj}/{run.id}"
run.finish()
r = wandb.Api().run(P)
assert sorted(r.tags) == ["a", "live"] and r.notes == "live notes" and r.name == "live-name", (r.tags, r.notes, r.name)
r.tags.append("b")
r.tags.remove("a")
r.name = "renamed"
r.notes = "n1"
r.config["x"] = 2
r.config["new"] = [1, 2]
r.summary["m"] = 7
r.summary["added"] = {"deep": 1}
r.group = "grp"
r.update()
r = wandb.Api().run(P)
assert (
    sorted(r.tags) == ["b", "live"]
    and r.name == "renamed"
    and r.notes == "n1"
    and r.config == {"x": 2, "keep": "k", "new": [1, 2]}
    and r.summary["m"] == 7
    and r.summary["added"]["deep"] == 1
    and r.group == "grp"
), (r.tags, r.config, r.group)
assert r.state == "finished" and "_wandb" in r.rawconfig
assert [x.id for x in wandb.Api().runs(f"{r.entity}/{proj}", filters={"tags": "b"})] == [r.id] and len(
    wandb.Api().runs(f"{r.entity}/{proj}", filters={"tags": "a"})
) == 0
r.summary.update({"m2": 8})
assert wandb.Api().run(P).summary["m2"] == 8 and wandb.Api().run(P).summary["m"] == 7
r.tags = []
r.update()
assert wandb.Api().run(P).tags == []
done("s08")
