"""SciPy's ODR and odrpack, called as their users call them: derivatives by finite differences."""

import importlib
import importlib.metadata
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from gradfit._types import FloatArray
from gradfit.app.bench.problems import SIGMA, Problem

TOLERANCE = 1e-12
"""Relative change of chi-square and of the parameters at which every solver stops."""

One: TypeAlias = Callable[[FloatArray, Any], FloatArray]
"""Points x and y of one fit to its parameters (p,)."""


def peers(problem: Problem) -> dict[str, One]:
    """Return those that are installed, by name."""
    found = {"scipy.odr": _scipy(problem), "odrpack": _odrpack(problem)}
    return {name: one for name, one in found.items() if one is not None}


def _scipy(problem: Problem) -> One | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            odr: Any = importlib.import_module("scipy.odr")
    except ImportError:
        return None
    described = odr.Model(problem.plain, implicit=problem.implicit)
    start, implicit = list(problem.start.values()), problem.implicit
    limits = {"sstol": TOLERANCE, "partol": TOLERANCE, "maxit": 500}

    def one(x: FloatArray, y: Any) -> FloatArray:
        data = odr.Data(x, 1, wd=SIGMA**-2) if implicit else odr.RealData(x, y, sx=SIGMA, sy=SIGMA)
        return odr.ODR(data, described, start, **limits).run().beta

    return one


def _odrpack(problem: Problem) -> One | None:
    try:
        odrpack: Any = importlib.import_module("odrpack")
    except ImportError:
        return None
    start, implicit = np.array(list(problem.start.values())), problem.implicit
    asked: dict[str, Any] = {"sstol": TOLERANCE, "partol": TOLERANCE, "maxit": 500}
    asked["weight_x"] = SIGMA**-2
    asked |= {"task": "implicit-ODR"} if implicit else {"weight_y": SIGMA**-2}

    def function(x: FloatArray, beta: FloatArray) -> FloatArray:
        return problem.plain(beta, x)

    def one(x: FloatArray, y: Any) -> FloatArray:
        y = np.zeros(x.shape[-1]) if implicit else y
        return odrpack.odr_fit(function, x, y, start, **asked).beta

    return one


def version(package: str) -> str | None:
    """Return the version of a package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
