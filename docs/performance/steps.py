"""Count the steps of gradfit, odrpack and MINPACK on NIST's nonlinear data: the table of steps.md.

Run from the root of the repository: ``python docs/performance/steps.py``.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import odrpack
from scipy.optimize import least_squares

import gradfit as gf

TOLERANCE = 1e-10
SETS = json.loads(Path("tests/oracles/strd.json").read_text("utf-8"))


def digits(found, certified):
    """Count the digits in which all parameters agree with the certified ones."""
    gap = np.abs(np.array(found) / np.array(certified, float) - 1).max()
    return min(11.0, -np.log10(gap + 1e-99))


def row(name, k):
    """Return one line of the table."""
    given = SETS[name]
    keys, start = given["params"], [float(v) for v in given["starts"][k]]
    x, y = np.array(given["x"], float), np.array(given["y"], float)
    y = np.log(y) if given["log_y"] else y
    names = ["x"] if len(x) == 1 else [f"x{i + 1}" for i in range(len(x))]
    scope = {"exp": np.exp, "sin": np.sin, "cos": np.cos, "atan": np.arctan, "pi": np.pi}
    scope |= dict(zip(names, x, strict=True))
    code = compile(given["formula"], name, "eval")

    def curve(beta):
        return eval(code, scope | dict(zip(keys, beta, strict=True))) + 0 * x[0]

    def slopes(beta):
        return np.array([curve(beta + s).imag / 1e-30 for s in 1e-30j * np.eye(len(beta))])

    fit = gf.fit(
        given["formula"],
        data={**dict(zip(names, x, strict=True)), "y": y},
        x=names if len(names) > 1 else "x",
        y="y",
        start=dict(zip(keys, start, strict=True)),
        sx=0,
        sy=1,
        absolute_sigma=False,
        backend="eager",
    )
    peer = odrpack.odr_fit(
        lambda _, b: curve(b),
        x[0] if len(x) == 1 else x,
        y,
        np.array(start),
        task="OLS",
        jac_beta=lambda _, b: slopes(b),
        jac_x=lambda _, b: np.zeros(x.shape) if len(x) > 1 else np.zeros(len(y)),
        maxit=20_000,
        sstol=TOLERANCE,
        partol=TOLERANCE,
    )
    lm = least_squares(
        lambda b: curve(b) - y, start, lambda b: slopes(b).T, method="lm", x_scale="jac",
        ftol=TOLERANCE, xtol=TOLERANCE, gtol=TOLERANCE, max_nfev=20_000,
    )  # fmt: skip
    certified = given["certified"]
    ours = f"{fit.n_steps} | {fit.n_eval} | {digits([fit.params[p] for p in keys], certified):.0f}"
    theirs = f"{peer.niter} / {peer.nfev} | {digits(peer.beta, certified):.0f}"
    minpack = f"{lm.njev} / {lm.nfev} | {digits(lm.x, certified):.0f}"
    return f"| {name} | {k + 1} | {ours} | {theirs} | {minpack} |"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    for name in SETS:
        for k in (0, 1):
            print(row(name, k), flush=True)
