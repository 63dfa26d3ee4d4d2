"""Formulas: what they mean, what they refuse, and where they say so."""

import linecache
import math
import pickle
import traceback
from contextlib import suppress

import mpmath
import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given
from hypothesis import strategies as st

import gradfit as gf
from gradfit._formula import FUNCTIONS, Formula
from gradfit.errors import GradfitError, InputError

X = torch.linspace(0.1, 0.9, 7, dtype=torch.float64)


def evaluate(text: str, **values: object) -> np.ndarray:
    return Formula(text).evaluate({"x": X, **values}).numpy()


def test_names_come_in_the_order_of_first_appearance():
    f = Formula("y = where(x < b, a, pi)*exp(-b*(x - x0)) + a")
    assert f.names == ("x", "b", "a", "x0")
    assert f.target == "y"
    assert f.body == "where(x < b, a, pi)*exp(-b*(x - x0)) + a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2*x**2 - 3*x/4 + 1", lambda x: 2 * x**2 - 3 * x / 4 + 1),
        ("-x**2", lambda x: -(x**2)),
        ("x**-0.5", lambda x: x**-0.5),
        ("+x", lambda x: x),
        ("sqrt(2)*x + pi - exp(1)", lambda x: np.sqrt(2) * x + np.pi - np.e),
        ("π*x", lambda x: np.pi * x),
        ("3·x × 2 ÷ 4 − 1", lambda x: 3 * x * 2 / 4 - 1),
        ("-2*x^2", lambda x: -2 * x**2),
        ("x^-1 + 2^x^2", lambda x: 1 / x + 2 ** (x**2)),
        ("(x + 1)² + x⁻³ + x¹⁰", lambda x: (x + 1) ** 2 + x**-3.0 + x**10),
        ("where(x ≤ 0.5, ln(x), 2)", lambda x: np.where(x <= 0.5, np.log(x), 2)),
        ("(x ≠ 0.5) - (x ≥ 0.5)", lambda x: (x != 0.5) * 1.0 - (x >= 0.5)),
        ("(x > 0.2) + (x > 0.3)", lambda x: (x > 0.2) * 1.0 + (x > 0.3)),
        ("-(x > 0.5)/(x > 0)", lambda x: -((x > 0.5) * 1.0)),
        ("exp(x > 0.5)", lambda x: np.exp((x > 0.5) * 1.0)),
        ("(x > 0.5)**2 == (x > 0.5)", np.ones_like),
        ("where(x < 0.5, 0.1, 0.2)", lambda x: np.where(x < 0.5, 0.1, 0.2)),
        ("where(x >= 0.5, x, 0)", lambda x: np.where(x >= 0.5, x, 0)),
        ("maximum(x, 0.3) + minimum(0.3, x)", lambda x: np.full_like(x, 0.3) + x),
        ("clamp(x, 0.2, 0.4)", lambda x: np.clip(x, 0.2, 0.4)),
        ("atan2(x, 2) + hypot(x, 1)", lambda x: np.arctan2(x, 2) + np.hypot(x, 1)),
        ("(x < 0.5)*x", lambda x: (x < 0.5) * x),
        ("x\n  + 1", lambda x: x + 1),
    ],
)
def test_formulas_mean_what_numpy_means(text, expected):
    np.testing.assert_allclose(evaluate(text), expected(X.numpy()), rtol=1e-15)


REFERENCE = {
    "acos": np.arccos, "acosh": np.arccosh, "asin": np.arcsin, "asinh": np.arcsinh,
    "atan": np.arctan, "atanh": np.arctanh, "digamma": scipy.special.digamma,
    "erf": scipy.special.erf, "erfc": scipy.special.erfc, "erfinv": scipy.special.erfinv,
    "i0": scipy.special.i0, "i1": scipy.special.i1, "lgamma": scipy.special.gammaln,
    "ln": np.log, "logit": scipy.special.logit, "sigmoid": scipy.special.expit,
    "softplus": lambda x: np.log1p(np.exp(x)),
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    sorted(FUNCTIONS - {"where", "clamp", "minimum", "maximum", "hypot", "atan2", "arctan2"}),
)
def test_every_function_is_that_of_numpy_or_scipy_and_has_a_gradient(name):
    x = (X + (1 if "acosh" in name or "arccosh" in name else 0)).requires_grad_()
    value = Formula(f"{name}(x)").evaluate({"x": x})
    expected = REFERENCE.get(name) or getattr(np, name)
    np.testing.assert_allclose(value.detach(), expected(x.detach().numpy()), rtol=1e-12, atol=1e-15)
    value.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_a_mean_or_a_current_may_be_a_parameter_where_it_is_not_called():
    f = Formula("i0*exp(-(x - mean)**2)")
    assert f.names == ("i0", "x", "mean")
    assert float(f.evaluate({"i0": 3.0, "x": 2.0, "mean": 2.0})) == 3.0
    with pytest.raises(InputError, match=r"column 1: 'mean' is a function"):
        Formula("mean*mean(x)")


def test_numbers_stay_in_double_precision():
    assert evaluate("0.1 + 0*x")[0] == 0.1
    assert float(Formula("exp(1)/3").evaluate({})) == math.e / 3


def test_a_function_of_the_formula_shows_its_text_in_a_traceback():
    f = Formula("y = a*x + x[9]")
    assert f.indexed == {"x": (9,)}
    assert f.whole == {"a", "x"}
    with pytest.raises(IndexError) as caught:
        f.function(("x", "a"))(X, 2.0)
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert frame.line == "y = a*x + x[9]"
    assert frame.line[frame.colno : frame.end_colno] == "x[9]"
    assert linecache.getline(frame.filename, 1) == "y = a*x + x[9]"


def test_columns_stand_for_rows_of_x():
    fn = Formula("a*u + b*v**u").function(("x", "a", "b"), {"u": 0, "v": 1})
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    torch.testing.assert_close(fn(x, 10.0, 1.0), torch.tensor([13.0, 36.0]))


def test_the_same_question_gives_the_same_function():
    first = Formula("a*x").function(("x", "a"))
    assert Formula("a * x".replace(" ", "")).function(("x", "a")) is first


def test_a_formula_survives_pickling():
    f = pickle.loads(pickle.dumps(Formula("y = a*x")))
    assert f == Formula("y = a*x")
    assert f.target == "y"


def test_missing_values_are_named():
    with pytest.raises(InputError, match=r"needs values for a, b\."):
        Formula("a*x + b").evaluate({"x": X})


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("a*foo(x)", 3, r"unknown function 'foo'"),
        ("expp(x)", 1, r"Did you mean 'exp'"),
        ("__import__('os')", 1, r"unknown function '__import__'"),
        ("x.__class__", 1, r"an attribute"),
        ("a + (x.real)", 6, r"an attribute"),
        ("exp.__call__(x)", 1, r"only the functions of formulas"),
        ("(lambda: 1)()", 2, r"only the functions of formulas"),
        ("[a, b]", 1, r"a list"),
        ("a,", 1, r"a comma stands between two values"),
        ("1, 2", 1, r"numbers only"),
        ("(a, b)*x", 1, r"a comma inside brackets"),
        ("a if x else b", 1, r"use where"),
        ("x and a", 1, r"`and`"),
        ("not x", 1, r"only \+ and -"),
        ("a := x", 1, r"only names"),
        ("'a'*x", 1, r"is not a number"),
        ("True*x", 1, r"is not a number"),
        ("2j*x", 1, r"is not a number"),
        ("__x + a", 1, r"not allowed"),
        ("e*x", 1, r"write exp\(1\)"),
        ("a + b*x + e*x**4", 11, r"write exp\(1\)"),
        ("a*e^(-x)", 3, r"write exp\(1\)"),
        ("sin(2*Pi*x)", 7, r"write pi"),
        ("a*x + inf", 7, r"finite numbers only"),
        ("nan*x", 1, r"finite numbers only"),
        ("pi[0]*x", 1, r"pi is a number"),
        ("a*x[0] + π[1]", 10, r"π is a number"),
        ("0x1F*x", 1, r"write the number 31 in digits"),
        ("a*x + 1_000", 7, r"write the number 1000 in digits"),
        ("a*x + 0b1", 7, r"write the number 1 in digits"),
        ("a*min(x, 3)", 3, r"Write minimum\(a, b\)"),
        ("max(x, 3)", 1, r"Write maximum\(a, b\)"),
        ("pow(x, a)", 1, r"Write a\*\*b"),
        ("gaussian(x, a, b, c)", 1, r"Write a\*exp"),
        ("a*lg(x)", 3, r"Write log10\(x\)"),
        ("x(a + 1)", 1, r"Write every product with \*"),
        ("zebra(x)", 1, r"Known are abs"),
        ("mean (x) + mean*x", 12, r"'mean' is a function"),
        ("a*x # b", 5, r"'#' \(U\+0023\) has no meaning"),
        ("y = a*x) + (b", 8, r"unmatched"),
        ("a // x", 1, r"use \+ - \* / \*\*"),
        ("a @ x", 1, r"use \+ - \* / \*\*"),
        ("0 < x < 1", 1, r"two values at a time"),
        ("a*(1 < 2)", 4, r"compares two numbers"),
        ("where(x, 1, 2)", 7, r"needs a comparison"),
        ("exp(x, a)", 1, r"takes 1 value"),
        ("clamp(x, 1)", 1, r"takes 3 values"),
        ("exp(x=1)", 1, r"without names"),
        ("exp(*x)", 5, r"not allowed"),
        ("exp*x", 1, r"write exp\(\.\.\.\)"),
        ("x[a]", 1, r"only name\[number\]"),
        ("x[0:1]", 1, r"only name\[number\]"),
        ("x[True]", 1, r"only name\[number\]"),
        ("9**9**9**9", 4, r"not a finite number"),
        ("a + 1/0", 5, r"not a finite number"),
        ("(-8)**(1/3)*x", 1, r"not a finite real number"),
        ("log(0)*x", 1, r"not a finite real number"),
        ("1e999*x", 1, r"not a finite real number"),
        ("2x", 1, r"Write every operator"),
        ("a (x", 3, r"never closed"),
        ("a b", 3, r"Write every operator"),
        ("lambda*x", 1, r"a word of Python"),
        ("f(x) = a", 1, r"only names"),
        ("y = ", 3, r"nothing stands right"),
        ("σ*µ + a // 2", 7, r"use \+ - \* / \*\*"),
        ("σ = a² // 2", 5, r"use \+ - \* / \*\*"),
        ("µ·x^2 + exp*x", 9, r"write exp\(\.\.\.\)"),
    ],
)
def test_what_is_no_formula_is_refused_at_its_place(text, column, reason):
    with pytest.raises(InputError, match=reason) as caught:
        Formula(text)
    assert f"column {column}: " in str(caught.value)
    assert "\n" not in str(caught.value)
    shown, mark = caught.value.__notes__[0].split("\n")
    assert mark.index("^") - 4 == column - 1
    assert shown.strip() == text.strip()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("x+" * 6000 + "x", "at most 10000"),
        (3, "must be text"),
    ],
)
def test_what_is_no_text_of_bearable_length_is_refused(text, reason):
    with pytest.raises(InputError, match=reason):
        Formula(text)


@pytest.mark.parametrize(
    "text", ["-" * 3000 + "x", "(" * 150 + "x" + ")" * 150 + "*" * 3, "+x" * 4000]
)
def test_deep_nesting_is_an_input_error_not_a_crash(text):
    try:
        Formula(text).evaluate({"x": X})
    except InputError:
        return
    assert text.startswith("+x")


@pytest.mark.parametrize("text", ["a*\ud800", "a*x\x00", "a*\u202ex", "a\u200b*x", "a*x\x07"])
def test_what_cannot_be_seen_is_refused_in_words_that_can_be_printed(text):
    with pytest.raises(InputError, match=r"an invisible character \(U\+") as caught:
        Formula(text)
    told = "\n".join([str(caught.value), *caught.value.__notes__])
    assert told.replace("\n", "").isprintable()


def test_columns_called_e_or_pi_are_data():
    f = Formula("e*pi + a", known=("e", "pi"))
    assert f.names == ("e", "pi", "a")
    assert pickle.loads(pickle.dumps(f)) == f != Formula("k*pi + a")
    x = np.array([1.0, 2.0, 3.0, 4.0])
    table = {"e": x, "y": 3 * x + 1}
    fit = gf.fit("a*e + b", data=table, x="e", y="y")
    np.testing.assert_allclose([fit.params["a"], fit.params["b"]], [3, 1], rtol=1e-9)


def test_a_comparison_is_a_number_wherever_one_is_wanted():
    for text in ("+(a>a)", "-(a>a)", "(a>a)**(a<=a)", "a*x, (x > a)", "sum(x > a)"):
        Formula(text).evaluate({"a": 0.5, "x": X})


@pytest.mark.parametrize("text", ["x*log(x)", "a*x*ln(x/a)", "log10(x)*a*x", "-x**2*log2(x)/a"])
def test_a_product_with_a_logarithm_is_0_where_both_vanish(text):
    f, x = Formula(text), torch.tensor([0.0, 0.25, 3.0], dtype=torch.float64)
    value = f.function(f.names)(*(x if n == "x" else 0 * x + 2.0 for n in f.names))
    names = {"log": np.log, "ln": np.log, "log10": np.log10, "log2": np.log2, "a": 2.0}
    expected = eval(text, names, {"x": x[1:].numpy()})
    np.testing.assert_allclose(value.numpy(), [0.0, *expected], rtol=1e-14)


def test_sinc_keeps_the_digits_of_its_derivatives_around_0():
    """Against mpmath in 40 digits; torch's own are 0 or NaN there instead of -pi**2/3."""
    mpmath.mp.dps = 40
    numbers = [0.0, 1e-300, 1e-9, -1e-5, 1e-3, 0.3, 0.32, -0.7, 2.5]
    x = torch.tensor(numbers, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(
        Formula("sinc(x)").evaluate({"x": x}).sum(), x, create_graph=True
    )
    (second,) = torch.autograd.grad(first.sum(), x)
    for k, (order, found) in enumerate([(1, first), (2, second)] * len(numbers)):
        at = mpmath.mpf(numbers[k // 2])
        wanted = mpmath.diff(lambda t: mpmath.sincpi(t), at, order, h=mpmath.mpf("1e-12"))
        assert found[k // 2].item() == pytest.approx(float(wanted), rel=1e-11, abs=1e-11)


@given(st.text(alphabet="abxe01.+-*/()^[]<>=,_ 'lσ\n", max_size=40))
def test_any_text_is_a_formula_or_an_input_error(text):
    try:
        f = Formula(text)
    except InputError:
        return
    assert all(n.isidentifier() for n in f.names)


_PIECES = """
    a b x c e E pi π i j x[0] pi[0] x[1] sin( exp( where( sum( mean( log( ln( min( gaussian( ( ) ) )
    , + - * / ** ^ · × − ² ³ ⁻¹ < > <= == ≤ = 0 1 2.5 1e3 1e 0x1 1_0 .5 1e999 2j ' " # \\ \ud800
    \x00 \u202e if else and not lambda for in [ ] { } : ; . @ % & | ~ ! ? $ ` None True _ __ µ 𝑥 ∑ é
"""
PIECES = _PIECES.split()


def _strings(count: int, seed: int):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        parts = rng.choice(PIECES, size=rng.integers(1, 12))
        yield rng.choice(["", " "]).join(parts)


def _refused(text: str) -> bool:
    """Take a text through every step of a formula; return whether it was refused."""
    try:
        f = Formula(text)
        values = {n: X if n not in f.indexed else torch.stack([X, X]) for n in f.names}
        f.evaluate(values)
    except InputError as error:
        told = [str(error), *getattr(error, "__notes__", [])]
        assert "\n" not in told[0]
        assert "".join(told).replace("\n", "").isprintable()
        return True
    return False


@pytest.mark.parametrize(
    ("count", "seed"), [(4_000, 0), pytest.param(20_000, 1, marks=pytest.mark.slow)]
)
def test_any_string_of_their_pieces_is_a_formula_or_an_input_error(count, seed):
    refused = sum(_refused(text) for text in _strings(count, seed))
    assert 0.02 * count < count - refused < 0.5 * count


@pytest.mark.filterwarnings("ignore::gradfit.errors.GradfitWarning")
def test_fits_of_such_strings_raise_nothing_raw():
    for text in _strings(300, 2):
        with suppress(GradfitError):
            gf.fit(text, X, X + 1, max_steps=2)


@given(st.recursive(
    st.sampled_from(["x", "a", "2.5", "3"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]}{t[1]}{t[2]})"),
        inner.map(lambda s: f"sin({s})"),
        inner.map(lambda s: f"-{s}"),
    ),
    max_leaves=12,
))  # fmt: skip
def test_formulas_agree_with_pythons_own_reading(text):
    names = {"x": X.numpy(), "a": np.float64(0.7), "sin": np.sin}
    expected = eval(text, {"__builtins__": {}}, names)
    got = Formula(text).evaluate({"x": X, "a": 0.7}).numpy()
    np.testing.assert_allclose(got, expected + 0 * got, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("text", ["a*x, 2, b", "(a*x, 2, b)", "u, v, w = a*x, 2, b"])
def test_commas_part_the_values_of_several_responses(text):
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    formula = Formula(text)
    assert formula.names == ("a", "x", "b")
    value = formula.evaluate({"a": 3.0, "b": 5.0, "x": x})
    assert value.tolist() == [[3.0, 6.0], [2.0, 2.0], [5.0, 5.0]]


@pytest.mark.parametrize("text", ["maximum(a*x, 2)", "where(x < 2, a, 1)", "a*x, b"])
def test_a_traced_formula_shows_what_was_written_and_nothing_else(text):
    formula = Formula(text)
    names = formula.names
    values = [torch.tensor(2.0, requires_grad=True) for _ in names]
    graph = gf.trace(formula.function(names), *values)
    assert graph[text].is_result
    assert {node.expr for node in graph.nodes if node.expr} <= {text, "a*x", "x < 2"}
