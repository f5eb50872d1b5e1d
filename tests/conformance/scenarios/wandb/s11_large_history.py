"""100k steps: client-side log rate, finish time, server-visible completeness, scan speed. N via S11_STEPS."""

import os
import time

from _scratch import ENTITY, done, uniq

# isort: split
import wandb

N = int(os.environ.get("S11_STEPS", 100_000))
proj = uniq("s11")
run = wandb.init(project=proj, entity=ENTITY)
t = time.time()
for i in range(N):
    run.log({"loss": 1.0 / (i + 1), "acc": i / N, "lr": 1e-3})
t_log = time.time() - t
t2 = time.time()
run.finish()
t_fin = time.time() - t2
wall = time.time() - t
print(
    f"log() loop {t_log:.2f}s = {N / t_log:.0f} steps/s; finish {t_fin:.2f}s; end-to-end {wall:.2f}s = {N / wall:.0f} steps/s",
    flush=True,
)
r = wandb.Api().run(f"{run.entity}/{proj}/{run.id}")
assert r.state == "finished" and r.lastHistoryStep == N - 1 and r.summary["acc"] == (N - 1) / N
t = time.time()
n = 0
for row in r.scan_history(page_size=10_000):
    assert row["_step"] == n
    n += 1
t_scan = time.time() - t
assert n == N, n
print(f"scan_history {t_scan:.2f}s = {N / t_scan:.0f} rows/s")
t = time.time()
h = r.history(samples=500, pandas=False)
print(f"history(500) {time.time() - t:.2f}s rows={len(h)}")
done(
    "s11",
    steps=N,
    log_s=f"{t_log:.2f}",
    finish_s=f"{t_fin:.2f}",
    e2e_steps_per_s=f"{N / wall:.0f}",
    scan_s=f"{t_scan:.2f}",
)
