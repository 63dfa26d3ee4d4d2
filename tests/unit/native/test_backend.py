"""Which machinery runs a fit, what it says of it, and fits that are prepared."""

import gc
import os
import threading
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch
from agreement import assert_same_ends

import gradfit as gf
from gradfit import _dispatch
from gradfit._native import machine
from gradfit.errors import InputError, ModelError

DECAY = "a*exp(-b*x) + c"
START = {"a": 3.5, "b": 0.35, "c": 0.6}
SIGMAS = {"sx": 0.05, "sy": 0.05}
compiled = pytest.mark.skipif(not machine.enabled(), reason="nothing is compiled")
FIELDS = [
    "params",
    "stderr",
    "chi2",
    "dof",
    "mswd",
    "p_value",
    "condition",
    "rank",
    "at_bound",
]


@pytest.fixture
def points(rng):
    x = np.linspace(0, 8, 25)
    y = 4 * np.exp(-0.4 * x) + 0.7
    return x + 0.05 * rng.standard_normal(25), y + 0.05 * rng.standard_normal(25)


def assert_same_result(found, wanted):
    assert_same_ends(found, wanted)
    for name in FIELDS:
        a, b = getattr(found, name), getattr(wanted, name)
        if isinstance(a, dict):
            assert list(a) == list(b)
            a, b = list(a.values()), list(b.values())
        if name == "at_bound":
            assert a == b
        else:
            np.testing.assert_allclose(a, b, 1e-8, 1e-13)
    for name in ("cov", "corr", "delta", "eps", "x_hat", "y_hat", "weights"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), 1e-7, 1e-9)


ASKED = {
    "plain": {},
    "fixed": {"fixed": {"c": 0.7}, "start": {"a": 3.5, "b": 0.35}},
    "bounded": {"bounds": {"c": (0.5, 0.65)}},
    "robust": {"loss": "huber"},
    "scaled": {"absolute_sigma": False},
    "observed": {"cov_type": "observed"},
    "sandwich": {"cov_type": "sandwich"},
    "exact y": {"sy": 0.0},
}


@pytest.mark.parametrize("name", ASKED)
def test_results_are_those_of_torch_in_every_field(name, points):
    asked = {"start": START, **SIGMAS, **ASKED[name]}
    wanted = gf.fit(DECAY, *points, backend="eager", **asked)
    found = gf.fit(DECAY, *points, backend="native", **asked)
    assert (wanted.backend, found.backend) == ("eager", "native")
    assert found.message == wanted.message or found.status != wanted.status
    assert_same_result(found, wanted)


def test_tables_are_those_of_torch(points):
    x, y = (np.tile(v, 4) for v in points)
    y[3] = np.nan
    groups = np.repeat(["a", "b", "c", "d"], 25)
    keep = np.arange(100) < 77
    asked = {"start": START, "groups": groups[keep], **SIGMAS}
    with pytest.warns(match="2 of 4 fits"):
        wanted = gf.fit(DECAY, x[keep], y[keep], backend="eager", **asked)
    with pytest.warns(match="2 of 4 fits"):
        found = gf.fit(DECAY, x[keep], y[keep], backend="native", **asked)
    assert_same_ends(found, wanted)
    for name in ("chi2", "p_value", "cov", "delta", "y_hat"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), 1e-7, 1e-9)


def test_tensors_come_back_as_tensors(points):
    x, y = map(torch.tensor, points)
    found = gf.fit(DECAY, x, y, start=START, backend="native", **SIGMAS)
    assert found.backend == "native"
    assert isinstance(found.x_hat, torch.Tensor)


def branching(x, a, b):
    return a * x + b if x.sum() > 0 else a * x - b


def test_what_cannot_be_compiled_runs_in_torch_and_says_why(points):
    found = gf.fit(branching, *points, start=[1.0, 1.0], backend="native", sy=1.0)
    assert found.backend == "eager"
    assert "not run as machine code: it looks at numbers" in found.message
    steps = []
    found = gf.fit("a*x + b", *points, start=[1.0, 1.0], backend="native", on_step=steps.append)
    assert "`on_step` looks at every step" in found.message


def test_a_constant_that_changes_is_noticed(points):
    factor = torch.tensor(2.0, dtype=torch.float64)

    def model(x, a, b):
        return a * x * factor + b

    first = gf.fit(model, *points, start=[1.0, 1.0], backend="native", sy=1.0)
    factor.fill_(4.0)
    second = gf.fit(model, *points, start=[1.0, 1.0], backend="native", sy=1.0)
    assert second.params["a"] == pytest.approx(first.params["a"] / 2, rel=1e-9)


def test_by_itself_no_fit_runs_as_the_python_it_is_written_in(points, as_python):
    def model(x, a, b, c):
        return a * torch.exp(-b * x) + c

    asked = {"start": START, **SIGMAS}
    assert gf.fit(model, *points, backend="native", **asked).backend == "native"
    _dispatch._KNOWN[model].spent = 1e9
    assert gf.fit(model, *points, **asked).backend == "eager"


@compiled
def test_by_itself_machine_code_is_looked_for_once_it_is_worth_it(points, monkeypatch):
    def model(x, a, b, c):
        return a * torch.exp(-b * x) + c

    monkeypatch.setattr(_dispatch, "COMPILING", 1e9)
    asked = {"start": START, **SIGMAS}
    assert gf.fit(model, *points, **asked).backend == "eager"
    gf.fit(model, *points, backend="native", **asked)
    _dispatch._KNOWN[model].spent = 1.0
    assert gf.fit(model, *points, **asked).backend == "native"


def plain(x, a, b, c):
    return a * torch.exp(-b * x) + c


def imports(x, a, b, c):
    from math import pi

    import torch

    return a * torch.exp(-b * x) + c * pi


FACTOR = 1.0


def reads(x, a, b, c):
    return FACTOR * a * torch.exp(-b * x) + c


@pytest.mark.parametrize(("model", "looks"), [(plain, 1), (imports, 1), (reads, 3), (DECAY, 1)])
def test_what_can_read_nothing_that_changes_is_written_down_once(model, looks, points, monkeypatch):
    known, record, calls = WeakKeyDictionary(), _dispatch.record, []
    monkeypatch.setattr(_dispatch, "_KNOWN", known)
    monkeypatch.setattr(_dispatch, "record", lambda *a: calls.append(1) or record(*a))
    for _ in range(3):
        assert gf.fit(model, *points, start=START, **SIGMAS, backend="native").backend == "native"
    assert len(calls) == looks


@compiled
def test_a_model_is_not_looked_at_again_before_compiling_it_pays(points, monkeypatch):
    factor = 1.0

    def model(x, a, b, c):
        return factor * a * torch.exp(-b * x) + c

    looks, record = [], _dispatch.record
    monkeypatch.setattr(_dispatch, "record", lambda *a: looks.append(1) or record(*a))
    monkeypatch.setattr(_dispatch, "COMPILING", 1e9)
    monkeypatch.setattr(_dispatch.cpu, "is_ready", lambda *_: False)
    for _ in range(4):
        assert gf.fit(model, *points, start=START, **SIGMAS).backend == "eager"
        _dispatch._KNOWN[model].spent = 1.0
    assert len(looks) == 1


def test_a_prepared_fit_is_that_of_fit(points):
    fitter = gf.prepare(DECAY, start=START, **SIGMAS)
    x, y = points
    for shift in (0.0, 0.1):
        found = fitter(x, y + shift)
        wanted = gf.fit(DECAY, x, y + shift, start=START, backend="eager", **SIGMAS)
        assert_same_ends(found, wanted)
        assert found.dof == wanted.dof
        assert found.success
        assert_same_result(found.full, wanted)
        np.testing.assert_array_equal(found.cov, found.full.cov)


def test_a_prepared_fit_with_exact_y_moves_x_and_y_together(points):
    fitter = gf.prepare(DECAY, start=START, sx=0.05, sy=0.0)
    wanted = gf.fit(DECAY, *points, start=START, sx=0.05, sy=0.0, backend="eager")
    assert_same_result(fitter(*points).full, wanted)


def test_a_prepared_fit_gives_tensors_for_tensors(points):
    given = [torch.from_numpy(v) for v in points]
    wanted = gf.fit(DECAY, *given, start=START, **SIGMAS, backend="native")
    found = gf.prepare(DECAY, start=START, **SIGMAS)(*given).full
    for name in ("x_hat", "y_hat", "eps", "cov"):
        value = getattr(found, name)
        assert isinstance(value, torch.Tensor)
        assert torch.equal(value, getattr(wanted, name))


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_a_prepared_fit_keeps_its_data_when_their_room_is_used_again(kind, points):
    x, y = (kind(v) for v in points)
    fitter = gf.prepare(DECAY, start=START, **SIGMAS)
    wanted = fitter(x, y).full
    later = fitter(x, y)
    x[:], y[:] = 0.0, 0.0
    np.testing.assert_array_equal(later.full.eps, wanted.eps)
    np.testing.assert_array_equal(later.full.x_hat, wanted.x_hat)


def test_a_prepared_fit_tells_what_the_data_leave_open():
    fitter = gf.prepare("a + b*x", start=[1.0, 1.0], sx=0.1, sy=0.1)
    fit = fitter(np.ones(9), np.ones(9))
    assert fit.status == fit.full.status == gf.Status.SINGULAR
    assert not fit.success
    assert fit.dof == fit.full.dof


def test_a_prepared_fit_tells_which_number_is_none(points):
    x, y = points
    fitter = gf.prepare(DECAY, start=START, **SIGMAS)
    fitter(x, y)
    y[7] = np.inf
    with pytest.raises(InputError, match=r"`y` must be finite; 1 of 25 .* index 7: inf"):
        fitter(x, y)


def test_machine_code_outlives_its_place_in_memory(points, monkeypatch):
    monkeypatch.setattr(machine, "MOST", 3)
    x, y = points
    fitter = gf.prepare(DECAY, start=START, **SIGMAS)
    wanted = fitter(x, y).params
    gf.fit("a*exp(-b*x) + c*1.5", x, y, **SIGMAS, start=START, backend="native")
    gc.collect()
    assert fitter(x, y).params == wanted


def test_preparing_asks_for_what_it_needs(points):
    with pytest.raises(ModelError, match="cannot be prepared: it looks at numbers"):
        gf.prepare(branching, start=[1.0, 1.0])(*points)
    with pytest.raises(InputError, match="`start` must be given"):
        gf.prepare("a*x + b", start=None)(*points)
    with pytest.raises(InputError, match="must be finite"):
        gf.prepare("a*x + b", start=[1.0, 1.0])([0.0, np.nan, 1.0], [0.0, 1.0, 2.0])


def test_eight_threads_get_the_same_answers(points):
    x, y = points
    fitter = gf.prepare(DECAY, start=START, **SIGMAS)
    wanted = [fitter(x, y + k / 50).params for k in range(8)]
    found = [None] * 8

    def work(k):
        for _ in range(20):
            found[k] = fitter(x, y + k / 50).params

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == wanted


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_gets_the_same_answer(points):
    wanted = gf.fit(DECAY, *points, start=START, backend="native", **SIGMAS).params
    child = os.fork()
    if not child:
        same = gf.fit(DECAY, *points, start=START, backend="native", **SIGMAS).params == wanted
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_prepared_formula_may_have_several_variables(rng):
    formula = "a*exp(-b*x[0]) + c*x[1]"
    x = rng.uniform(0, 3, (2, 30))
    y = 2.5 * np.exp(-0.6 * x[0]) + 0.7 * x[1] + 0.05 * rng.standard_normal(30)
    given = {"start": {"a": 2, "b": 0.5, "c": 1}, "sx": 0.05, "sy": 0.05}
    prepared = gf.prepare(formula, **given)(x, y)
    fit = gf.fit(formula, x, y, **given)
    for name, value in fit.params.items():
        assert prepared.params[name] == pytest.approx(value, rel=1e-9)


def test_a_formula_that_is_none_is_refused_before_there_are_data():
    with pytest.raises(InputError, match="formula"):
        gf.prepare("a + ", start={"a": 1})
