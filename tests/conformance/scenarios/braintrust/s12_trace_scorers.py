"""CLIENT: braintrust.  Scorers that read the spans of their trace from the server; every filter that they can ask for."""

import os
import uuid

BASE = os.environ["BRAINTRUST_BASE_URL"].rstrip("/")
os.environ.setdefault("BRAINTRUST_APP_URL", BASE)
os.environ.setdefault("BRAINTRUST_API_URL", BASE)
import braintrust
from braintrust.trace import SpanFetcher, _normalize_span_filters

tag = uuid.uuid4().hex[:8]
P = f"s12-{tag}"


def task(given, hooks):
    with braintrust.start_span(name="retrieve", type="tool", metadata={"top": {"k": given}}) as span:
        span.log(output=["doc"])
    with braintrust.start_span(name="answer", type="llm") as span:
        span.log(output="text", metrics={"prompt_tokens": 3, "completion_tokens": given})
        if given == 2:
            span.log(error="no answer")
    return given


async def used_a_tool(input, output, trace):
    spans = await trace.get_spans(span_type=["tool"])
    return 1.0 if [span.span_attributes["name"] for span in spans] == ["retrieve"] else 0.0


result = braintrust.Eval(
    P, experiment_name="traced", data=lambda: [{"input": n} for n in range(4)], task=task, scores=[used_a_tool]
)
assert result.summary.scores["used_a_tool"].score == 1.0, result.summary.scores
metrics = result.summary.metrics
assert metrics["llm_calls"].metric == 1 and metrics["tool_calls"].metric == 1, metrics
assert metrics["errors"].metric == 0.25 and metrics["llm_errors"].metric == 0.25, metrics
assert metrics["prompt_tokens"].metric == 3 and metrics["total_tokens"].metric == 4.5, metrics

experiment = braintrust.init(project=P, experiment="traced", open=True)
roots = {row["input"]: row["root_span_id"] for row in experiment if not row.get("span_parents")}
assert set(roots) == {0, 1, 2, 3}


def names(given, include_scorers=False, **filters):
    fetcher = SpanFetcher(
        "experiment",
        experiment.id,
        roots[given],
        experiment.state,
        include_scorers=include_scorers,
        filters=_normalize_span_filters(filters),
    )
    return sorted(row["span_attributes"]["name"] for row in fetcher.fetch())


assert names(0) == ["answer", "eval", "retrieve", "task"], names(0)
assert names(0, include_scorers=True) == ["answer", "eval", "retrieve", "task", "used_a_tool"]
assert names(0, span_type=["llm", "tool"]) == ["answer", "retrieve"]
assert names(0, name=["task"]) == ["task"] and names(0, name=[]) == []
assert names(2, has_error=True) == ["answer"] and names(1, has_error=True) == []
assert names(2, has_error=False, span_type=["llm"]) == []
assert names(3, metadata={"top": {"k": 3}}) == ["retrieve"] and names(3, metadata={"top": {"k": 2}}) == []
assert names(3, metadata={"top": None}, span_type=["llm"]) == ["answer"]
assert names(1, duration={"min": 1000}) == [] and len(names(1, duration={"max": 1000})) == 4
print("OK s12", len(roots), "traces")
