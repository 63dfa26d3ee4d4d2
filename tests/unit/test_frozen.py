"""Values that are made at once lack nothing."""

from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

import gradfit as gf
from gradfit._data import gather
from gradfit._model import as_model
from gradfit._problem import state_problem

X = np.linspace(0, 4, 12)
Y = 3 * np.exp(-0.5 * X) + 0.05 * np.sin(9 * X)
GIVEN = {"start": {"a": 2.0, "b": 0.4}, "sx": 0.02, "sy": 0.05}


def stated():
    asked = {"fixed": None, "bounds": None, "fix_x": None, "absolute_sigma": None}
    return state_problem(gather(X, Y), as_model("a + b*x"), **asked)


MADE = {
    "data": lambda: gather(X, Y),
    "problem": stated,
    "result": lambda: gf.fit("a*exp(-b*x)", X, Y, backend="eager", **GIVEN),
    "observed": lambda: gf.fit("a*exp(-b*x)", X, Y, backend="eager", **GIVEN).observed,
    "prepared": lambda: gf.prepare("a*exp(-b*x)", **GIVEN)(X, Y),
}


@pytest.mark.parametrize("kind", MADE)
def test_every_field_is_there_and_frozen(kind):
    value = MADE[kind]()
    assert list(vars(value).keys() - {f.name for f in fields(value)}) == []
    for field in fields(value):
        assert field.name in vars(value)
    with pytest.raises(FrozenInstanceError):
        value.params = {}
