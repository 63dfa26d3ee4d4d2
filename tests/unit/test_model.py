"""Models: parameters by name from functions, formulas and names; pickling; failures in one line."""

import copy
import functools
import pickle

import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit import models
from gradfit._formula import Formula
from gradfit._model import Model, as_model
from gradfit.errors import InputError, ModelError

X = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)


def curve(x, a, b=2.0, *, sharp=True):
    return a * x**b if sharp else a * x


def test_a_signature_names_parameters_and_their_starts():
    model = as_model(curve)
    assert model.names == ("a", "b")
    assert model.defaults == {"b": 2.0}
    assert model.label == "curve"
    assert model.fn is curve


def test_what_partial_binds_is_no_parameter():
    model = as_model(functools.partial(curve, b=3, sharp=False))
    assert model.names == ("a",)
    torch.testing.assert_close(model.fn(X, 2.0), 2 * X)
    assert model.label == "curve"


def test_arguments_behind_a_bound_one_stay_parameters():
    def line(x, a, b, c):
        return a + b * x + c * x**2

    model = as_model(functools.partial(line, b=10.0))
    assert model.names == ("a", "c")
    torch.testing.assert_close(model.fn(X, 1.0, 2.0), 1 + 10 * X + 2 * X**2)


def test_keyword_only_arguments_without_a_default_are_parameters():
    model = as_model(lambda x, a, *, b, n=2: a * x + b * n)
    assert model.names == ("a", "b")
    torch.testing.assert_close(model.fn(X, 1.0, 3.0), X + 6)
    assert model.label == "f(x, a, b)"


def test_methods_callable_objects_and_modules_are_models():
    class Scale:
        def __call__(self, x, a):
            return a * x

        def method(self, x, a, b):
            return a * x + b

    class Module(torch.nn.Module):
        def forward(self, x, a):
            return a * x

    assert as_model(Scale()).names == ("a",)
    assert as_model(Scale().method).names == ("a", "b")
    assert as_model(Module()).names == ("a",)
    assert as_model(Module()).label == "Module"
    assert as_model(Scale()).label == "Scale"


def test_a_model_stays_itself():
    model = as_model("line")
    assert as_model(model) is model
    assert copy.deepcopy(model) is model


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (3, "got int"),
        (None, "got NoneType"),
        (torch.nn.Linear, "got Linear"),
        (lambda: 1, "first argument"),
        (lambda **kw: 1, "first argument"),
        (lambda x: x, "no parameter to fit"),
        (lambda *a: 1, r"takes \*a"),
        (lambda x, *a: x, r"takes \*a"),
        (lambda x, a, **kw: x, r"takes \*\*kw"),
        (lambda x, a, kind="b": x, "kind='b', which is no number"),
        (torch.exp, "no signature"),
        (models.polynomial, "no parameter to fit"),
    ],
)
def test_what_names_no_parameters_is_refused(model, reason):
    with pytest.raises(InputError, match=reason):
        as_model(model)


def test_x_and_columns_are_data_in_a_formula():
    by_column = as_model("a*exp(-b*time) + c", ["time"])
    by_x = as_model("y = a*exp(-b*x) + c", ["time"])
    assert by_column.names == by_x.names == ("a", "b", "c")
    assert by_column.label == "a*exp(-b*time) + c"
    assert by_x.label == "a*exp(-b*x) + c"
    torch.testing.assert_close(by_column.fn(X, 2.0, 1.0, 0.5), 2 * torch.exp(-X) + 0.5)
    torch.testing.assert_close(by_x.fn(X, 2.0, 1.0, 0.5), 2 * torch.exp(-X) + 0.5)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a*u + b*v", ["u", "v"]),
        ("a*x[0] + b*x[1]", ["u", "v"]),
        ("a*x[0] + b*v", ["u", "v"]),
        ("a*x[0] + b*x[1]", ["x[0]", "x[1]"]),
        ("a*x + b*v", ["x", "v"]),
    ],
)
def test_several_variables_have_names_or_numbers(text, names):
    model = as_model(text, names)
    assert model.names == ("a", "b")
    assert model.n_x == 2
    x = torch.stack([X, X**2])
    torch.testing.assert_close(model.fn(x, 2.0, 3.0), 2 * X + 3 * X**2)


@pytest.mark.parametrize(
    ("text", "names", "reason"),
    [
        ("a*t + b", ["time"], "does not use the data: call them x or time"),
        ("2*x", None, "no parameter"),
        ("a*x[0]", None, r"uses x\[0\], but x is one variable"),
        ("a*x[2] + x[0]", ["u", "v"], r"uses x\[2\], but there are 2 variables"),
        ("a*x + b", ["u", "v"], "call them u, v"),
        ("a*x + b", ["x[0]", "x[1]"], r"call them x\[0\], x\[1\]"),
        ("a*x*b[0]", None, "indexes 'b'"),
        ("gausian", None, "Did you mean 'gaussian'"),
        ("zzz", None, "Known are line"),
    ],
)
def test_formulas_that_do_not_meet_the_data_are_refused(text, names, reason):
    with pytest.raises(InputError, match=reason):
        as_model(text, names)


def test_the_same_text_gives_the_same_function():
    assert as_model("a*x + 7").fn is as_model("a*x + 7").fn


@pytest.mark.parametrize(
    "model", ["line", "polynomial4", "y = a*t + b", models.gaussian, models.polynomial(2), curve]
)
def test_models_survive_pickling(model):
    before = as_model(model, ["t"])
    after = pickle.loads(pickle.dumps(before))
    assert after.names == before.names
    assert after.label == before.label
    assert after.defaults == before.defaults
    values = [1.0 + 0.1 * k for k in range(len(before.names))]
    torch.testing.assert_close(after.fn(X, *values), before.fn(X, *values), rtol=0, atol=0)


def test_a_function_that_cannot_be_pickled_says_so_when_called():
    lost = pickle.loads(pickle.dumps(as_model(lambda x, a: a * x)))
    assert lost.names == ("a",)
    with pytest.raises(ModelError, match=r"'f\(x, a\)' was lost when its fit was pickled"):
        lost.call(X, [X])


def test_source_turns_into_the_model_again():
    for text in ("line", "polynomial5", "y = a*x"):
        assert as_model(as_model(text).source).names == as_model(text).names
    assert as_model(models.sine).source == "sine"
    assert as_model(Formula("a*x")).source == "a*x"
    assert as_model(curve).source is None


def gaussian(x, a):
    """Bears the name of a built-in model, and is another one."""
    return a * x


def test_a_function_is_not_taken_for_a_built_in_of_its_name():
    assert as_model(gaussian).source is None
    assert as_model(gaussian).positive == ()
    assert pickle.loads(pickle.dumps(as_model(gaussian))).names == ("a",)


def test_what_goes_wrong_in_a_model_is_told_in_one_line():
    def fails(x, a):
        raise ValueError("first\nsecond")

    with pytest.raises(ModelError, match=r"^the model 'fails' failed with ValueError: first\.$"):
        as_model(fails).call(X, [X])
    with pytest.raises(ModelError, match=r"must return a tensor, got float"):
        as_model(lambda x, a: 1.0).call(X, [X])
    with pytest.raises(ModelError, match=r"to NumPy, which cannot follow its graph"):
        as_model(lambda x, a: np.exp(a * x)).call(X, [X.clone().requires_grad_()])


def test_an_error_of_ours_inside_a_model_comes_through():
    def refuses(x, a):
        raise InputError("as it is")

    with pytest.raises(InputError, match=r"^as it is$"):
        as_model(refuses).call(X, [X])


def test_models_compare_by_identity():
    assert Model(fn=curve, names=("a",), label="c") != Model(fn=curve, names=("a",), label="c")


def test_a_promise_holds_for_data_of_that_shape_alone():
    def line(x, a, b):
        return a * x + b

    x = torch.linspace(0, 5, 8, dtype=torch.float64)
    y = 2 * x + 1 + 0.1 * torch.cos(5 * x)
    for _ in range(2):
        assert gf.fit(line, x, y, start=[2, 1]).success
    for backend in ("native", "eager"):
        with pytest.raises(ModelError, match=r"must return shape \(2, N\)"):
            gf.fit(line, x, torch.stack([y, -y]), start=[2, 1], backend=backend)
    with pytest.raises(ModelError, match=r"must return shape"):
        gf.fit(line, torch.stack([x, x]), y, start=[2, 1])


def test_a_parameter_that_was_fixed_is_tested_once_it_is_free():
    def cut(x, a, b):
        return a * x + b.detach()

    x = torch.linspace(0, 5, 8, dtype=torch.float64)
    y = 2 * x + 1 + 0.1 * torch.cos(5 * x)
    assert gf.fit(cut, x, y, start=[2, 1], fixed={"b": 1.0}).success
    with pytest.raises(ModelError, match="breaks its graph: its value depends on 'b'"):
        gf.fit(cut, x, y, start=[2, 1])
