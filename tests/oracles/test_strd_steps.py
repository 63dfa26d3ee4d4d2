"""NIST's nonlinear reference data from both starts: certified digits, in few steps.

Ordinary least squares at the default ``max_steps``. The data are NIST's Statistical Reference
Datasets (doi 10.18434/T43G6C), read from the copies in lmfit's repository (``NIST_STRD``).
"""

import json
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import least_squares

import gradfit as gf

SETS = json.loads((Path(__file__).parent / "strd.json").read_text("utf-8"))
CASES = [(name, k) for name in SETS for k in (0, 1)]
DIGITS = 9
"""Digits of the eleven that NIST certifies, and that our arithmetic keeps on every set."""
FEW = {
    ("Bennett5", 0): 60,
    ("Bennett5", 1): 30,
    ("Lanczos1", 0): 40,
    ("Lanczos2", 0): 40,
    ("Lanczos3", 0): 40,
    ("MGH09", 0): 120,
    ("MGH10", 0): 200,
    ("MGH10", 1): 40,
    ("MGH17", 0): 499,
    ("MGH17", 1): 25,
    ("BoxBOD", 0): 50,
    ("Eckerle4", 0): 35,
    ("Nelson", 0): 45,
}
"""Steps that are enough where a valley is long and bent; elsewhere 25 are."""
BENT = [c for c in FEW if c[0] not in {"BoxBOD", "Eckerle4"}]


def columns(name):
    given = SETS[name]
    x, y = np.array(given["x"], float), np.array(given["y"], float)
    return x, np.log(y) if given["log_y"] else y


@cache
def fit(name, k, backend="native"):
    given, (x, y) = SETS[name], columns(name)
    keys = ["x"] if len(x) == 1 else [f"x{i + 1}" for i in range(len(x))]
    start = dict(zip(given["params"], map(float, given["starts"][k]), strict=True))
    data = {**dict(zip(keys, x, strict=True)), "y": y}
    return gf.fit(
        given["formula"],
        data=data,
        x=keys if len(keys) > 1 else "x",
        y="y",
        start=start,
        sx=0,
        sy=1,
        absolute_sigma=False,
        backend=backend,
    )


@pytest.mark.parametrize(("name", "k"), CASES)
def test_certified_values_are_reached_in_few_steps(name, k):
    found, certified = fit(name, k), np.array(SETS[name]["certified"], float)
    assert found.status < 10, found.message
    got = np.array([found.params[p] for p in SETS[name]["params"]])
    assert (np.abs(got - certified) <= 10.0**-DIGITS * np.abs(certified)).all()
    assert found.n_steps <= FEW.get((name, k), 25)


@pytest.mark.parametrize(("name", "k"), BENT)
def test_bent_valleys_take_fewer_steps_than_minpack(name, k):
    given, (x, y) = SETS[name], columns(name)
    code = compile(given["formula"], name, "eval")
    names = {"exp": np.exp, "x": x[0]} | {f"x{i + 1}": v for i, v in enumerate(x)}

    def curve(beta):
        return eval(code, names | dict(zip(given["params"], beta, strict=True)))

    def slopes(beta):
        steps = 1e-30j * np.eye(len(beta))
        return np.array([curve(beta + s).imag / 1e-30 for s in steps]).T

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        peer = least_squares(
            lambda beta: curve(beta) - y,
            np.array(given["starts"][k], float),
            slopes,
            method="lm",
            x_scale="jac",
            ftol=1e-10,
            xtol=1e-10,
            gtol=1e-10,
            max_nfev=5000,
        )
    assert fit(name, k).n_steps < peer.nfev


@pytest.mark.parametrize(("name", "k"), [("Bennett5", 1), ("Lanczos3", 0), ("Nelson", 0)])
def test_both_engines_follow_the_same_curves(name, k):
    native, eager = fit(name, k), fit(name, k, "eager")
    assert abs(native.n_steps - eager.n_steps) <= 2
    assert dict(native.params) == pytest.approx(dict(eager.params), rel=1e-8)
