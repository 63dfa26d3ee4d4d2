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


TEN_MILLION = 10_000_000


@pytest.fixture(scope="module")
def beyond() -> int:
    """Bytes beyond the input of a line through ten million points."""
    return int(memory.measure(TEN_MILLION)["beyond_bytes"])


@pytest.mark.slow
def test_line_through_ten_million_points_fits_into_one_gibibyte(beyond: int) -> None:
    assert beyond < memory.LIMIT


@pytest.mark.slow
def test_memory_grows_with_the_result_and_nothing_else(beyond: int) -> None:
    half = memory.measure(TEN_MILLION // 2)["beyond_bytes"]
    # A result holds delta, eps, x_hat, y_hat and weights, the engine the feet and their trial.
    assert beyond - half < TEN_MILLION // 2 * 7.5 * 8
