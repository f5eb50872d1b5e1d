"""A long history that has ended is read as Parquet files, and says exactly what pages of it say."""

import math
import os
from pathlib import Path

from _scratch import ENTITY, done, uniq, wait_for

# isort: split
import wandb
from wandb.apis.public.runhistory import IncompleteRunHistoryError

STEPS = 6_000
proj = uniq("s41")


def logged(step):
    return {
        "loss": math.nan if step == 3 else math.inf if step == 4 else -math.inf if step == 5 else 1 / (step + 1),
        "whole": step,
        "word": f'wörd {step} "quoted"',
        "flag": step % 2 == 0,
        "deep": {"a": step / 2, "b": {"c": f"c{step}"}},
    }


def flat(step):
    row = logged(step)
    deep = row.pop("deep")
    return {"_step": step, **row, "deep.a": deep["a"], "deep.b.c": deep["b"]["c"]}


def log(steps, values, **more):
    run = wandb.init(project=proj, entity=ENTITY, **more)
    for step in steps:
        run.log(values(step))
    run.finish()
    return run


def cached(run):
    return sorted(Path(os.environ["WANDB_CACHE_DIR"]).rglob(f"*{run.id}*.runhistory.parquet"))


def same(a, b):
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


def check(rows, expected, without=("_timestamp", "_runtime")):
    rows = list(rows)
    assert len(rows) == len(expected), (len(rows), len(expected))
    for row, want in zip(rows, expected, strict=True):
        got = {key: value for key, value in row.items() if key not in without}
        assert got.keys() == want.keys() and all(same(got[key], want[key]) for key in want), (got, want)
        assert type(row["_timestamp"]) in (int, float) and row["_runtime"] >= 0


# --- a dense history: from the files, once it is sealed
dense = log(range(STEPS), logged, id=uniq("dense"))
P = f"{dense.entity}/{proj}"
want = [flat(step) for step in range(STEPS)]


def read_from_files():
    check(wandb.Api().run(f"{P}/{dense.id}").scan_history(), want)  # the same, wherever it comes from
    return cached(dense)


wait_for(read_from_files, "Parquet files of the history")
seen = wandb.Api().run(f"{P}/{dense.id}")
check(seen.beta_scan_history(page_size=777), want)
check(seen.beta_scan_history(min_step=10, max_step=20, use_cache=False), want[10:20])
some = [(row["_step"], row["whole"]) for row in seen.scan_history(keys=["_step", "whole"], page_size=2500)]
assert some == [(step, step) for step in range(STEPS)]
exported = seen.download_history_exports(download_dir=Path("exports"))
assert len(exported.paths) == 1 and exported.paths[0].read_bytes()[:4] == b"PAR1" and not exported.contains_live_data

# --- one with gaps, one that is short, one that still runs: from pages, with nothing added
gaps = log(range(STEPS), lambda step: {"x": step} | ({"rare": step} if step % 100 == 0 else {}), id=uniq("gaps"))
wanted = [{"_step": step, "x": step} | ({"rare": step} if step % 100 == 0 else {}) for step in range(STEPS)]
check(wandb.Api().run(f"{P}/{gaps.id}").scan_history(), wanted)
short = log(range(10), logged, id=uniq("short"))
check(wandb.Api().run(f"{P}/{short.id}").beta_scan_history(), want[:10])
again = wandb.init(project=proj, entity=ENTITY, id=dense.id, resume="must")
again.log(logged(STEPS))
live = wandb.Api().run(f"{P}/{dense.id}")
assert live.state == "running"
try:
    live.download_history_exports(download_dir=Path("partial"))
    raise SystemExit("a history that is not all in files is not complete")
except IncompleteRunHistoryError as error:
    print("live ->", str(error)[:80])
check(live.scan_history(max_step=50), want[:50])
again.finish()
check(wandb.Api().run(f"{P}/{dense.id}").scan_history(), [*want, flat(STEPS)])

# --- taken back: the files that the client has kept are not asked for again
back = wandb.init(project=proj, entity=ENTITY, id=dense.id, resume_from=f"{dense.id}?_step=99")
back.log({"loss": 7})
back.finish()
rows = list(wandb.Api().run(f"{P}/{dense.id}").scan_history())
assert len(rows) == 101 and rows[100]["loss"] == 7, len(rows)
assert not cached(gaps) and not cached(short)
done("s41", files=len(cached(dense)))
