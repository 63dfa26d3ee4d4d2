"""Memory beyond the data does not grow with the size of a fit's intermediate results."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "memory.py"
spec = importlib.util.spec_from_file_location("memory", SCRIPT)
assert spec is not None
assert spec.loader is not None
memory = importlib.util.module_from_spec(spec)
spec.loader.exec_module(memory)


@pytest.mark.slow
def test_line_through_ten_million_points_fits_into_one_gibibyte() -> None:
    report = memory.measure(10_000_000)
    assert report["beyond_bytes"] < memory.LIMIT


@pytest.mark.slow
def test_memory_grows_with_the_result_and_nothing_else() -> None:
    small, large = (memory.measure(n)["beyond_bytes"] for n in (1_000_000, 3_000_000))
    # A result holds delta, eps, x_hat, y_hat and weights: five numbers a point; two more are
    # allowed for the feet and their trial.
    assert large - small < 2_000_000 * 8 * 8
