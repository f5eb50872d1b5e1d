"""CLIENT: braintrust.  Eval() with 20 cases and 2 scorers; the server-side summary must carry the right averages.
Env: BRAINTRUST_BASE_URL (may contain a path prefix), BRAINTRUST_API_KEY."""

import os
import uuid

BASE = os.environ["BRAINTRUST_BASE_URL"].rstrip("/")
os.environ.setdefault("BRAINTRUST_APP_URL", BASE)
os.environ.setdefault("BRAINTRUST_API_URL", BASE)
from braintrust import Eval, Score, init

tag = uuid.uuid4().hex[:8]
PROJECT, EXP = f"s01-proj-{tag}", f"s01-exp-{tag}"
N = 20


def task(i):
    return i * 2 if i % 4 else -1  # 5 of 20 (0,4,8,12,16) are wrong ... except 0*2 == 0 is also wrong here (-1)


def exact(input, output, expected):
    return 1 if output == expected else 0


def closeness(input, output, expected):
    return Score(name="closeness", score=1.0 if output == expected else 0.25, metadata={"in": input})


res = Eval(
    PROJECT,
    experiment_name=EXP,
    data=lambda: [
        {"input": i, "expected": i * 2, "metadata": {"i": i}, "tags": ["even" if i % 2 == 0 else "odd"]}
        for i in range(N)
    ],
    task=task,
    scores=[exact, closeness],
    metadata={"model": "fake"},
    description="d",
    tags=["nightly"],
)
s = res.summary
assert type(s.comparison).__name__ == "SummarySuccess", s.comparison
assert s.experiment_name == EXP and s.project_name == PROJECT, s
assert set(s.scores) == {"exact", "closeness"}, s.scores
assert abs(s.scores["exact"].score - 15 / 20) < 1e-9, s.scores["exact"]
assert abs(s.scores["closeness"].score - (15 * 1 + 5 * 0.25) / 20) < 1e-9, s.scores["closeness"]
assert s.scores["exact"].improvements == 0 and s.scores["exact"].regressions == 0 and s.scores["exact"].diff is None
assert "duration" in s.metrics and s.metrics["duration"].unit == "s" and s.metrics["duration"].metric >= 0, s.metrics
assert len(res.results) == N

exp = init(project=PROJECT, experiment=EXP, open=True)
ev = list(exp.fetch())
roots = [e for e in ev if not e.get("span_parents")]  # hex ids: span_id != root_span_id even for roots
assert len(roots) == N, len(roots)
kinds = {}
for e in ev:
    k = e["span_attributes"]["type"]
    kinds[k] = kinds.get(k, 0) + 1
assert kinds == {"eval": N, "task": N, "score": 2 * N}, kinds
for r in roots:
    i = r["input"]
    assert r["expected"] == i * 2 and r["output"] == task(i) and r["metadata"]["i"] == i
    # Eval() logs scores on the scorer spans (children), not on the root
    sc = {k: v for e in ev if e["span_parents"] == [r["span_id"]] for k, v in (e.get("scores") or {}).items()}
    assert sc == {"exact": exact(i, r["output"], r["expected"]), "closeness": 1.0 if r["output"] == i * 2 else 0.25}, sc
    assert r["tags"] == ["even" if i % 2 == 0 else "odd"] and r["metrics"]["end"] >= r["metrics"]["start"]
# a second Eval with the same name must get a NEW experiment with a unique name (ensure_new)
res2 = Eval(PROJECT, experiment_name=EXP, data=lambda: [{"input": 1, "expected": 2}], task=task, scores=[exact])
assert res2.summary.experiment_name != EXP and res2.summary.experiment_name.startswith(EXP), (
    res2.summary.experiment_name
)
assert res2.summary.experiment_id != s.experiment_id
print(
    "OK s01",
    {k: v.score for k, v in s.scores.items()},
    "2nd:",
    res2.summary.experiment_name,
    "vs",
    res2.summary.comparison_experiment_name,
)
