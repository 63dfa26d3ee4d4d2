"""Work and memory grow with the number of points and no faster, whatever the errors look like."""

import importlib.util
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit._model import as_model

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "memory.py"
spec = importlib.util.spec_from_file_location("memory_curve", SCRIPT)
assert spec is not None
assert spec.loader is not None
memory = importlib.util.module_from_spec(spec)
spec.loader.exec_module(memory)


def counting(model: Any, m: int) -> tuple[Any, list[int]]:
    """Return a model that counts the points at which it is evaluated."""
    inner = as_model(model, ["x"] if m == 1 else [f"x[{i}]" for i in range(m)])
    seen: list[int] = []

    def counted(x: Any, *params: Any) -> Any:
        seen.append(x.shape[-1])
        return inner.fn(x, *params)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    arguments = [inspect.Parameter(n, kind) for n in ("x", *inner.names)]
    counted.__signature__ = inspect.Signature(arguments)  # type: ignore[attr-defined]
    return counted, seen


def work(structure: str, n: int) -> int:
    """Points at which the model was evaluated in six steps."""
    given = memory.STRUCTURES[structure](n)
    model, seen = counting(given.pop("model"), np.ndim(given["x"]))
    gf.fit(model, **given, max_steps=6, backend="eager")
    return sum(seen)


@pytest.mark.filterwarnings("ignore::gradfit.errors.ConvergenceWarning")
@pytest.mark.parametrize("structure", memory.STRUCTURES)
def test_model_is_evaluated_as_often_at_every_point_however_many_there_are(structure: str) -> None:
    few = work(structure, 1000)
    many = work(structure, 8000)
    assert 0 < many <= 1.3 * 8 * few


@pytest.mark.slow
@pytest.mark.parametrize("structure", memory.STRUCTURES)
def test_peak_memory_grows_no_faster_than_the_points(structure: str) -> None:
    sizes = (100_000, 200_000, 400_000)
    peaks = [memory.measure(n, structure)["beyond_bytes"] for n in sizes]
    assert memory.growth(sizes, peaks) <= memory.LINEAR
    # Feet, corrections, results and one linearisation, in numbers of eight bytes.
    assert peaks[-1] / sizes[-1] < 150 * 8


def test_full_covariance_is_the_one_structure_that_is_not_linear() -> None:
    """And so it is refused where it would take more than a few seconds."""
    n = 1001
    with pytest.raises(gf.errors.InputError, match="at most 2000 coordinates"):
        gf.fit("a + b*x", torch.zeros(n), torch.zeros(n), cov_joint=torch.zeros(2 * n, 2 * n))
