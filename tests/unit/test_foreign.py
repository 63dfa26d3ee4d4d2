"""Foreign numbers are refused by name, results own their data, tables go out as they came in."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import gradfit as gf
from gradfit.errors import InputError

X = np.linspace(0.5, 4.0, 8)
Y = 2 * X + 1 + 0.1 * np.cos(5 * X)
START = {"a": 1.0, "b": 1.0}
IDS = np.repeat([0, 1], 4)


class Quantity(np.ndarray):
    """An array with a unit, as astropy's is."""

    unit = "mV"


class Pint:
    """A number or array with units, as pint's is."""

    units = "millivolt"

    def __init__(self, value: Any) -> None:
        self.value = np.asarray(value, dtype=float)
        self.ndim = self.value.ndim

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.value

    def __float__(self) -> float:
        return float(self.value)


class Uncertain:
    """A number with an error, as that of the package uncertainties is."""

    nominal_value, std_dev = 1.0, 0.1


def fitted() -> Any:
    return gf.fit("a*x + b", X, Y, start=START, sy=0.1)


FOREIGN: dict[str, Callable[[Any], Any]] = {
    "astropy": lambda v: np.asarray(v, dtype=float).view(Quantity),
    "pint": Pint,
    "uncertainties": lambda v: (
        Uncertain() if np.ndim(v) == 0 else np.array([Uncertain()] * len(v), dtype=object)
    ),
    "list of pint": lambda v: [Pint(each) for each in np.atleast_1d(v)],
}
DOORS: dict[str, Callable[[Any, Any], Any]] = {
    "x": lambda of, v: gf.fit("a*x + b", of(X), Y, start=START),
    "y": lambda of, v: gf.fit("a*x + b", X, of(Y), start=START),
    "sx": lambda of, v: gf.fit("a*x + b", X, Y, start=START, sx=v),
    "sy": lambda of, v: gf.fit("a*x + b", X, Y, start=START, sy=v),
    "rho": lambda of, v: gf.fit("a*x + b", X, Y, start=START, sx=1, sy=1, rho=of(0.1 * X)),
    "cov": lambda of, v: gf.fit("a*x + b", X, Y, start=START, cov=[of([1.0, 0]), of([0, 1.0])]),
    "start": lambda of, v: gf.fit("a*x + b", X, Y, start={"a": v, "b": 1.0}),
    "fixed": lambda of, v: gf.fit("a*x + b", X, Y, fixed={"a": v}, start={"b": 1.0}),
    "bounds": lambda of, v: gf.fit("a*x + b", X, Y, start=START, bounds={"a": (None, v)}),
    "systematic": lambda of, v: gf.fit("a*x + b", X, Y, start=START, systematic=[{"y": v}]),
    "column": lambda of, v: gf.fit("a*x + b", data={"u": of(X), "v": Y}, x="u", y="v", start=START),
    "line": lambda of, v: gf.line(X, of(Y)),
    "line.sx": lambda of, v: gf.line(X, Y, v, 0.1),
    "circle": lambda of, v: gf.shapes.circle(np.cos(X), of(np.sin(X))),
    "simulate": lambda of, v: gf.simulate("a*x", {"a": v}, X),
    "simulate.x": lambda of, v: gf.simulate("a*x", {"a": 1.0}, of(X)),
    "mnr": lambda of, v: gf.mnr("a*x + b", X, of(Y), sx=0.1, sy=0.1, start=START),
    "prepare": lambda of, v: gf.prepare("a*x + b", start=START)(of(X), Y),
    "prepare.sy": lambda of, v: gf.prepare("a*x + b", start=START, sy=v)(X, Y),
    "predict": lambda of, v: fitted().predict(of(X)),
    "band": lambda of, v: fitted().band(of(X)),
    "band.sy": lambda of, v: fitted().band(X, kind="prediction", sy=v),
    "invert": lambda of, v: fitted().invert(v, 0.1),
    "invert.sy": lambda of, v: fitted().invert(4.0, v),
    "descend": lambda of, v: gf.descend(lambda a: (a - 1) ** 2, {"a": v}, epochs=2),
    "sweep_lr": lambda of, v: gf.sweep_lr(lambda a: (a - 1) ** 2, {"a": 1.0}, of([0.1]), epochs=2),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("door", DOORS)
def test_units_and_errors_are_never_stripped(door: str, kind: str) -> None:
    of = FOREIGN[kind]
    value = of(0.1) if kind != "list of pint" else of([0.1] * 8)
    with pytest.raises(InputError) as caught:
        DOORS[door](of, value)
    said = str(caught.value)
    assert "\n" not in said
    assert ("errors of their own" if kind == "uncertainties" else "has the unit") in said or (
        kind in ("list of pint", "uncertainties") and "must be" in said
    )


def test_astropy_is_refused() -> None:
    u = pytest.importorskip("astropy.units")
    with pytest.raises(InputError, match="`sx` has the unit 'mm'"):
        gf.line(X, Y, 100 * u.mm, 0.2)


def test_masked_values_are_missing_and_not_what_lies_under_the_mask() -> None:
    masked = np.ma.masked_greater(Y.copy(), 7)
    with pytest.raises(InputError, match=r"`y` must be finite; .* index \d: nan"):
        gf.fit("a*x + b", X, masked, start=START)
    left = gf.fit("a*x + b", X, masked, start=START, nan_policy="omit")
    keep = ~masked.mask
    alone = gf.fit("a*x + b", X[keep], Y[keep], start=START)
    assert left.params == pytest.approx(alone.params, rel=1e-12)
    with pytest.raises(InputError, match="`groups` has no label for 1 of 8 points .masked"):
        gf.fit("a*x + b", X, Y, groups=np.ma.array(IDS, mask=X[2] == X), start=START)


def everything(fit: Any) -> list[Any]:
    data = fit.observed
    values = [data.x, data.y, data.sx, data.sy, data.rho, fit.x_hat, fit.y_hat, fit.cov]
    return [np.array(torch.as_tensor(v).tolist()) for v in values if v is not None]


@pytest.mark.parametrize("as_torch", [False, True], ids=["numpy", "torch"])
@pytest.mark.parametrize("door", ["fit", "table", "line", "circle", "mnr", "prepare"])
def test_a_result_does_not_change_with_the_arrays_it_came_from(door: str, as_torch: bool) -> None:
    make = torch.from_numpy if as_torch else np.array
    x, y = make(X.copy()), make(Y.copy())
    sx, sy, rho = (make(np.full(8, v)) for v in (0.05, 0.1, 0.2))
    given = {"sx": sx, "sy": sy}
    if door == "fit":
        fit = gf.fit("a*x + b", x, y, start=START, rho=rho, **given)
    elif door == "table":
        fit = gf.fit("a*x + b", x, y, start=START, groups=make(IDS.copy()), **given)
    elif door == "line":
        fit = gf.line(x, y, sx, sy, rho)
    elif door == "circle":
        x, y = make(np.cos(X)), make(np.sin(X))
        fit = gf.shapes.circle(x, y, sx=sx, sy=sy)
    elif door == "mnr":
        fit = gf.mnr("a*x + b", x, y, start=START, **given)
    else:
        fitter = gf.prepare("a*x + b", start=START, **given)
        for buffer in (sx, sy):
            buffer[:] = 7.0
        fit = fitter(x, y)
    look = (lambda f: everything(f.full)) if door == "prepare" else everything
    if door == "mnr":
        look = lambda f: [np.array(f.observed.x), np.array(f.observed.y)]  # noqa: E731
    if door != "prepare":
        before = look(fit)
    for buffer in (x, y, sx, sy, rho):
        buffer[:] = -3.0
    after = look(fit)
    if door == "prepare":
        before = everything(gf.fit("a*x + b", X, Y, start=START, sx=0.05, sy=0.1))
        assert after[0] == pytest.approx(X)
        assert after[1] == pytest.approx(Y)
        assert np.unique(after[2]).tolist() == [0.05]
        return
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (pd.DataFrame, pd.DataFrame),
        (pl.DataFrame, pl.DataFrame),
        (pa.table, pa.Table),
        (dict, pl.DataFrame),
    ],
)
def test_tables_go_out_as_they_came_in(make: Any, kind: type) -> None:
    data = make({"u": X, "v": Y, "g": IDS})
    many = gf.fit("a*x + b", data=data, x="u", y="v", groups="g", start=START)
    assert isinstance(many.to_frame(), kind)
    assert isinstance(gf.FitTable.from_json(many.to_json()).to_frame(), kind)


def test_columns_go_out_as_they_came_in() -> None:
    frame = pd.DataFrame({"u": X, "v": Y, "g": IDS})
    assert isinstance(gf.line(frame["u"], frame["v"], groups=frame["g"]).to_frame(), pd.DataFrame)


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda: gf.fit("a*x", X, Y, sigma=0.1), "fit.. has no argument 'sigma': it is `sy` here"),
        (lambda: gf.fit("a*x", X, Y, yerr=0.1), "'yerr': it is `sy` here"),
        (lambda: gf.fit("a*x", X, Y, xerr=0.1), "'xerr': it is `sx` here"),
        (lambda: gf.fit("a*x", X, Y, p0=[1]), "'p0': it is `start` here"),
        (lambda: gf.fit("a*x", X, Y, beta0=[1]), "'beta0': it is `start` here"),
        (lambda: gf.fit("a*x", X, Y, weights=Y), "'weights': give standard deviations as `sy`"),
        (lambda: gf.fit("a*x", X, Y, strat=[1]), "'strat': it is `start` here"),
        (lambda: gf.fit("a*x", X, Y, zzzz=[1]), "'zzzz'; its arguments are model, x, y, "),
        (lambda: gf.line(X, Y, sigma=0.1), "line.. has no argument 'sigma': it is `sy` here"),
        (lambda: gf.prepare("a*x", p0=[1]), "'p0': it is `start` here"),
        (lambda: gf.mnr("a*x", X, Y, yerr=1), "it is `sy` here"),
        (lambda: gf.simulate("a*x", [1], X, sigma=1), "it is `sy` here"),
        (lambda: gf.lines.iso28037(X, Y, sy=1), "it is `uy` here"),
        (lambda: gf.shapes.circle(X, Y, xerr=1), "it is `sx` here"),
        (lambda: gf.descend(abs, {"a": 1.0}, learning_rate=1), "it is `lr` here"),
    ],
)
def test_words_of_other_libraries_are_understood(call: Any, meant: str) -> None:
    with pytest.raises(TypeError, match=meant) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_status_says_what_it_means_and_stays_a_number() -> None:
    status = fitted().status
    assert str(status) == f"{status}" == f"{status.name}: {status.message}"
    assert (f"{status:d}", int(status), status == 1) == (str(int(status)), 1, True)


HOSTILE = ["$x^{$", "\x1b[31mred", "\u202egnp", "a\nb", "<script>", "=1+1", "\ud800", "%s{}"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_columns_are_text_and_nothing_else(name: str) -> None:
    data = {name: X, "v": Y}
    fit = gf.fit("a*x + b", data=data, x=name, y="v", start=START, sx=0.1, sy=0.1)
    for said in (fit.summary(), fit._repr_html_(), fit.report()):
        assert "\x1b" not in said
        assert "\u202e" not in said
        assert "\ud800" not in said
    assert "<script>" not in fit.report().partition("<body>")[2]
    many = gf.fit("a*x + b", X, Y, start=START, groups=[name] * 4 + ["b"] * 4)
    assert "\x1b" not in many.summary() + many._repr_html_()
    many.plot().savefig(__import__("io").BytesIO(), format="svg")
    assert gf.FitTable.from_json(many.to_json()).keys == many.keys
