"""Removing parts and restoring them, in any order, leaves nothing changed; purging one leaves what was never logged."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkeep.core.entities import Run
from labkeep.core.lifecycle import Status
from labkeep.core.removals import Part
from labkeep.testing.factories import make_run
from tests.unit.operations.removal_lab import Lab, open_lab

KEYS = ("a", "b", "c")
VALUES = st.one_of(st.integers(-5, 5), st.floats(-2, 2, width=16), st.sampled_from(["x", "y"]), st.none())
LOGGED = st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1), min_size=1, max_size=8)
ROWS = st.dictionaries(
    st.sampled_from(["r1", "r2", "r3", "r4"]),
    st.fixed_dictionaries(
        {"input": VALUES}, optional={"scores": st.dictionaries(st.sampled_from(KEYS), st.floats(0, 1))}
    ),
    min_size=1,
)
BOUNDS = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def world(lab: Lab, run: Run, xacts: list[int]) -> Any:
    """Everything of a run that can be read and that a removal touches."""
    versions = [lab.shown_rows(run, as_of=xact) for xact in (*xacts, None)]
    stats, means = lab.stats(run)
    rounded = {name: round(mean, 9) for name, mean in means.items()}
    pages = [lab.shown(run), *(lab.shown(run, keys=[key]) for key in KEYS), lab.shown(run, offset=1, limit=2)]
    return versions, stats, rounded, pages, lab.series(run), lab.get(run).summary, lab.get(run).bytes


@BOUNDS
@given(
    batches=st.lists(LOGGED, min_size=1, max_size=3),
    writes=st.lists(ROWS, min_size=1, max_size=3),
    removed=st.lists(st.sampled_from(KEYS), unique=True, min_size=1),
    sealed=st.booleans(),
    order=st.randoms(use_true_random=False),
)
def test_what_is_removed_and_restored_is_as_it_was(
    batches: Any, writes: Any, removed: list[str], sealed: bool, order: Any
) -> None:
    with TemporaryDirectory() as folder, open_lab(Path(folder)) as lab:
        summary = dict.fromkeys(KEYS, 1)
        run = make_run(lab.store.database, lab.actor, status=Status.finished, summary=summary)
        for batch in batches:
            lab.log(run, *batch)
        xacts = [lab.rows(run, **rows) for rows in writes]
        if sealed:
            lab.seal(run)
        before = world(lab, run, xacts)
        ids = sorted({id for rows in writes for id in rows})
        made = [lab.remove(run, Part.row, ids=[id]) for id in ids]
        made += [lab.remove(run, Part.metric, ref=key) for key in removed]
        hidden = lab.shown(run)
        assert all(key not in row for row in hidden for key in removed)
        assert lab.stats(run)[0] == 0
        if not sealed:
            lab.seal(run)
        order.shuffle(made)
        for removal in made:
            lab.restore(removal)
        lab.work()
        after = world(lab, run, xacts)
        assert after[:-1] == before[:-1]
        lab.assert_sound()


@BOUNDS
@given(batches=st.lists(LOGGED, min_size=1, max_size=3), key=st.sampled_from(KEYS), sealed=st.booleans())
def test_a_purged_metric_leaves_the_world_as_if_it_had_never_been_logged(batches: Any, key: str, sealed: bool) -> None:
    with TemporaryDirectory() as folder, open_lab(Path(folder)) as lab:
        run, other = (make_run(lab.store.database, lab.actor, status=Status.finished) for _ in range(2))
        for batch in batches:
            lab.log(run, *batch)
            lab.log(other, *({name: value for name, value in row.items() if name != key} for row in batch))
        if sealed:
            lab.seal(run)
            lab.seal(other)
        if key in lab.series(run):
            lab.clock.advance(seconds=1)
            lab.purge(lab.remove(run, Part.metric, ref=key))
        lab.work()
        assert world(lab, run, [])[:-1] == world(lab, other, [])[:-1]
        lab.assert_sound()
