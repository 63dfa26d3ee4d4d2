"""The tables of ``gradfit bench``: equal answers first, then times, then ratios."""

import json
import time

import numpy as np
import pytest

from gradfit.app.bench.measure import Case, Timed, measure, timed
from gradfit.app.bench.tables import to_json, to_markdown, to_text

ANSWER = np.array([[1.0, 2.0]])


def case(seconds, answers=None, share=1.0):
    """Solvers that take as long as is said."""
    answers = answers or {}
    solvers = {
        name: Timed(lambda s=s, name=name: (s, answers.get(name, ANSWER)), share if s > 1 else 1.0)
        for name, s in seconds.items()
    }
    ours = {"gradfit": solvers.pop("gradfit")}
    return Case("some work", ours, solvers, np.array([0.5, 0.5]), rounds=3, block=2)


def test_ratios_are_those_of_medians():
    row = measure(case({"gradfit": 0.5, "peer": 0.75}))
    assert row.ratio("peer") == 1.5
    assert "750 ms (1.5x)" in to_text([row])


def test_an_answer_that_differs_has_no_ratio():
    row = measure(case({"gradfit": 0.5, "peer": 0.75}, {"peer": np.add(ANSWER, [0.0, 0.01])}))
    assert row.apart["peer"] == pytest.approx(0.02)
    assert row.ratio("peer") is None
    assert "750 ms (other answer)" in to_markdown([row])
    assert json.loads(to_json([row]))["rows"][0]["ratio"] == {"peer": None}


def test_nan_is_no_equal_answer():
    row = measure(case({"gradfit": 0.5, "peer": 0.75}, {"peer": np.full((1, 2), np.nan)}))
    assert row.ratio("peer") is None
    assert json.loads(to_json([row]))["rows"][0]["standard errors apart"]["peer"] is None


def test_a_part_is_told_as_the_whole():
    row = measure(case({"gradfit": 0.5, "peer": 2.0}, share=10.0))
    assert row.seconds == {"gradfit": 0.5, "peer": 20.0}
    assert "~ 20 s (40x)" in to_text([row])
    assert "~ told from a part" in to_text([row])


def test_a_peer_that_cannot_is_left_out_and_we_are_not():
    def refuse():
        raise ValueError("no")

    whole = case({"gradfit": 0.5})
    row = measure(whole._replace(peers={"peer": timed(refuse)}))
    assert "peer" not in row.seconds
    with pytest.raises(ValueError, match="no"):
        measure(whole._replace(ours={"gradfit": timed(refuse)}))


def test_calls_are_timed_one_by_one():
    def solve():
        time.sleep(0.002)
        return ANSWER

    seconds, answers = timed(solve).run()
    assert seconds >= 0.002
    assert answers is ANSWER
