"""The same numbers in any form give the same fit, bit for bit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from strategies import simulate

import gradfit as gf
from laws.fits import fit

REPRESENTABLE = simulate("decay", 24, seed=11)
REPRESENTABLE = replace(
    REPRESENTABLE,
    **{
        k: getattr(REPRESENTABLE, k).astype(np.float32).astype(float)
        for k in ("x", "y", "sx", "sy")
    },
)


def strided(v: np.ndarray) -> np.ndarray:
    return np.repeat(v, 3)[::3]


def reversed_twice(v: np.ndarray) -> np.ndarray:
    return v[::-1].copy()[::-1]


FORMS = {
    "list": np.ndarray.tolist,
    "tuple": lambda v: tuple(v.tolist()),
    "strided": strided,
    "negative stride": reversed_twice,
    "column of a matrix": lambda v: np.stack([v, v], 1)[:, 0],
    "read-only": lambda v: np.frombuffer(v.tobytes()),
    "big-endian": lambda v: v.astype(">f8"),
    "tensor": torch.from_numpy,
    "tensor that wants a gradient": lambda v: torch.from_numpy(v).clone().requires_grad_(),
    "strided tensor": lambda v: torch.from_numpy(np.repeat(v, 2))[::2],
}


@pytest.mark.parametrize("form", FORMS)
def test_form_of_the_input_does_not_matter(form: str) -> None:
    p, change = REPRESENTABLE, FORMS[form]
    expected = fit(p)
    arrays = [change(v.copy()) for v in (p.x, p.y)]
    sigma = {"sx": change(p.sx.copy()), "sy": change(p.sy.copy())}
    got = gf.fit(p.formula.model(), *arrays, start=p.start, **sigma)
    assert got.params == expected.params
    assert got.chi2 == expected.chi2
    assert torch.is_tensor(got.x_hat) == ("tensor" in form)
    np.testing.assert_array_equal(np.asarray(got.x_hat), expected.x_hat)


@pytest.mark.parametrize("dtype", [np.float32, torch.float32])
@pytest.mark.filterwarnings("ignore::gradfit.errors.PrecisionWarning")
def test_single_precision_input_is_fitted_in_double(dtype: Any) -> None:
    p = REPRESENTABLE

    def change(v: np.ndarray) -> Any:
        return torch.from_numpy(v).to(dtype) if isinstance(dtype, torch.dtype) else v.astype(dtype)

    expected = fit(p)
    got = gf.fit(
        p.formula.model(), change(p.x), change(p.y), start=p.start, sx=change(p.sx), sy=change(p.sy)
    )
    assert got.params == expected.params
    assert got.chi2 == expected.chi2


def test_whole_numbers_are_numbers() -> None:
    x, y = list(range(8)), [1, 3, 4, 8, 9, 11, 13, 14]
    # One backend: another may differ in the last bit.
    options = {"sx": 1, "sy": 2, "backend": "eager"}
    a = gf.fit("a + b*x", x, y, start={"a": 0, "b": 1}, **options)
    b = gf.fit(
        "a + b*x",
        np.array(x, float),
        np.array(y, float),
        start={"a": 0.0, "b": 1.0},
        **(options | {"sx": 1.0, "sy": 2.0}),
    )
    c = gf.fit(
        "a + b*x", np.array(x, np.int16), np.array(y, np.uint8), start={"a": 0, "b": 1}, **options
    )
    assert a.params == b.params == c.params
    assert a.chi2 == b.chi2 == c.chi2


def test_input_is_not_touched() -> None:
    p = simulate("peak", 20, seed=5)
    before = [v.copy() for v in (p.x, p.y, p.sx, p.sy)]
    result = fit(p)
    result.delta[:] = 0 if result.delta.flags.writeable else result.delta
    for old, now in zip(before, (p.x, p.y, p.sx, p.sy), strict=True):
        np.testing.assert_array_equal(old, now)
