"""No door lets anything out but answers, its own errors and its own warnings."""

import os

import pytest

from fuzz.campaign import run

MENDED: tuple[str, ...] = ("fit.data", "formulas", "models.*", "trace")
"""Doors that hold; ``python -m fuzz.campaign`` tries the others, too."""


def test_spoilt_calls_are_told_in_one_line() -> None:
    found = run(300, seed=1, only=MENDED)
    assert not found.faults, found.told()


@pytest.mark.slow
def test_very_many_spoilt_calls_are_told_in_one_line() -> None:
    found = run(int(os.environ.get("GRADFIT_FUZZ_CALLS", "20000")), seed=2, only=MENDED)
    assert not found.faults, found.told()
