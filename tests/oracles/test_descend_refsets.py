"""Descent on reference problems: where it can it reaches the solution, elsewhere it says why not.

The loss is the weighted squared distance with a correction of x for every point as a parameter;
`gradfit.fit` eliminates those, descent has to find them too.
"""

from typing import Any

import numpy as np
import pytest
import torch

import gradfit as gf
from oracles import refsets
from oracles.arrive import deviations, fit

REACHED = [
    "arsenate_deming",
    "creatinine_deming",
    "iso28037_c7",
    "kafe2_line4",
    "michaelis_menten_relative",
    "pearson_unit",
    "pearson_york",
    "pearson_york_swapped",
    "scipy_pearson_sd",
    "strd_chwirut2",
    "strd_eckerle4",
    "strd_enso",
    "strd_norris",
    "trap_sine_xerr",
]

MISSED = {
    "isochron_smnd1": "lost in the rounding error",
    "strd_filip": "flat along a direction",
    "strd_misra1a": "lost in the rounding error",
    "strd_wampler1": "lost in the rounding error",
    "trap_line_offset": "flat along a direction",
    "trap_parabola_symmetric": "bends down",
}
"""Problems that gradients alone do not solve, and words that must say so."""


def errors(problem: refsets.RefSet) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations of x and y per point; all 1 when none are given."""
    given = (problem.sx, problem.sy)
    nothing = 1.0 if all(s is None for s in given) else 0.0
    shape = problem.x[0].shape
    return tuple(  # type: ignore[return-value]
        np.array(np.broadcast_to(np.squeeze(nothing if s is None else s), shape)) for s in given
    )


def descend(name: str, epochs: int) -> tuple[refsets.RefSet, Any]:
    problem = refsets.load(name)
    x, y = torch.from_numpy(problem.x[0]), torch.from_numpy(problem.y[0])
    sx, sy = map(torch.from_numpy, errors(problem))

    def loss(delta: Any = 0.0, **params: torch.Tensor) -> torch.Tensor:
        curve = problem.formula([x + delta * sx], [params[n] for n in problem.names], torch)[0]
        return torch.sum(((y - curve) / sy) ** 2) + torch.sum(torch.as_tensor(delta) ** 2)

    start: dict[str, Any] = dict(problem.start(list(problem.starts)[-1]))
    if sx.any():
        start["delta"] = np.zeros(len(x))
    return problem, gf.descend(loss, start, epochs=epochs)


@pytest.mark.parametrize("name", REACHED)
def test_automatic_steps_reach_the_reference_and_the_fit(name):
    # In a narrow valley the last bits, and so the processor, decide how many steps it takes.
    problem, run = descend(name, epochs=10_000)
    assert run.success, run.diagnosis
    assert run.loss == pytest.approx(problem.chi2, rel=1e-10)
    found = np.array([run.params[n] for n in problem.names])
    near = 1e-4 * deviations(problem, "sd_gn_scaled")
    assert (np.abs(found - problem.beta) <= near).all()
    fitted = fit(name, list(problem.starts)[-1])
    assert run.loss == pytest.approx(float(fitted.chi2), rel=1e-10)
    assert (np.abs(found - [float(fitted.params[n]) for n in problem.names]) <= near).all()


@pytest.mark.parametrize("name", MISSED)
def test_where_gradients_do_not_suffice_the_words_say_so(name):
    _, run = descend(name, epochs=1300)
    assert not run.success
    assert MISSED[name] in run.diagnosis
