"""Special functions are right to a few units in the last place."""

import mpmath
import numpy as np
import pytest

from gradfit._native import special

ULP = 2.0**-52


def spread(rng):
    return np.concatenate([rng.uniform(-30, 30, 80), 10 ** rng.uniform(-6, 2.5, 30)])


CASES = {
    "digamma": (mpmath.digamma, lambda x: np.maximum(1.0, np.abs(x)), False),
    "erfinv": (mpmath.erfinv, None, "unit"),
    "lgamma": (lambda x: mpmath.log(abs(mpmath.gamma(x))), lambda x: np.ones_like(x), True),
    "i0": (lambda x: mpmath.besseli(0, x), None, False),
    "i0e": (lambda x: mpmath.exp(-abs(x)) * mpmath.besseli(0, x), None, False),
    "i1": (lambda x: mpmath.besseli(1, x), None, False),
    "i1e": (lambda x: mpmath.exp(-abs(x)) * mpmath.besseli(1, x), None, False),
    "zeta_3": (lambda x: mpmath.zeta(3, x), None, True),
    "trigamma": (lambda x: mpmath.polygamma(1, x), None, False),
    "polygamma_4": (lambda x: mpmath.polygamma(4, x), None, True),
}
FUNCTIONS = {
    **special.FUNCTIONS,
    "zeta_3": lambda x: special.zeta(3.0, x),
    "trigamma": lambda x: special.polygamma(1.0, x),
    "polygamma_4": lambda x: special.polygamma(4.0, x),
}


@pytest.mark.parametrize("name", CASES)
def test_special_function_is_right_to_a_few_units(name, rng):
    reference, size, domain = CASES[name]
    x = spread(rng)
    if domain == "unit":
        x = np.concatenate([rng.uniform(-1, 1, 80), 1 - 10 ** -rng.uniform(1, 15, 20)])
    elif domain:
        x = np.abs(x)
    found = np.array([FUNCTIONS[name](np.float64(v)) for v in x])
    wanted = np.array([float(reference(mpmath.mpf(float(v)))) for v in x])
    scale = np.abs(wanted) if size is None else np.maximum(np.abs(wanted), size(x))
    assert np.all(np.abs(found - wanted) <= 12 * ULP * scale)


@pytest.mark.parametrize(
    ("name", "x", "wanted"),
    [
        ("digamma", 0.0, -np.inf),
        ("digamma", -0.0, np.inf),
        ("digamma", -3.0, np.nan),
        ("lgamma", -2.0, np.inf),
        ("lgamma", -np.inf, np.inf),
        ("erfinv", 1.0, np.inf),
        ("erfinv", -1.0, -np.inf),
        ("erfinv", 1.5, np.nan),
        ("sign", np.nan, 0.0),
    ],
)
def test_special_function_at_its_edge(name, x, wanted):
    with np.errstate(all="ignore"):
        assert np.array_equal(special.FUNCTIONS[name](np.float64(x)), wanted, equal_nan=True)
