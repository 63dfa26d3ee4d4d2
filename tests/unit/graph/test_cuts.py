"""A gradient that lacks a path is never certified: what is on the screen is what is checked."""

import math

import pytest
import torch

from gradfit.graph import trace

X = torch.tensor([3.0, 4.0], dtype=torch.float64)


def leaf(value=(1.0, 2.0)):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def by_float(w):
    return (X * w).sum() / float(w.norm())


def by_detach(w):
    return (w * w.detach() ** 2).sum()


def by_data(w):
    return (w * w.data).sum()


def by_no_grad(w):
    with torch.no_grad():
        k = w * 3
    return (k * w).sum()


def by_new_tensor(w):
    return (torch.tensor([math.cos(w[0].item()), 1.5], dtype=torch.float64) * w).sum()


def by_tensor_of_tensors(w):
    return (torch.tensor([w[0] * 2, w[1]], dtype=torch.float64) * w).sum()


def by_numpy(w):
    return (torch.from_numpy(w.detach().numpy() * 2) * w).sum()


def straight_through(w):
    return ((w - w.detach() + w.detach().round()) * w).sum()


CUT = [
    *(by_float, by_detach, by_data, by_no_grad, by_new_tensor, by_tensor_of_tensors, by_numpy),
    straight_through,
]


@pytest.mark.filterwarnings("ignore:Converting a tensor")
@pytest.mark.parametrize("fn", CUT)
def test_a_partial_cut_is_not_certified(fn):
    w = leaf((1.2, 2.3))
    assert not torch.autograd.gradcheck(fn, (w,), raise_exception=False)
    report = trace(fn, w).check()
    (verdict,) = report.leaves
    assert verdict.outcome == "cut"
    assert not report
    assert "cut at `" in verdict.note


@pytest.mark.filterwarnings("ignore:Converting a tensor")
def test_the_slope_of_the_function_itself_is_named():
    w = leaf(0.5)
    graph = trace(lambda w: w * math.exp(w.item()), w)
    slope, promised = math.exp(0.5) * 1.5, math.exp(0.5)
    (verdict,) = graph.check().leaves
    assert f"slope {slope:.4g}, its gradient says {promised:.4g}" in verdict.note
    assert f"slope {slope:.4g}" in graph.explain("w")
    assert "differences agree" not in graph.explain("w")


@pytest.mark.filterwarnings("ignore:Converting a tensor")
@pytest.mark.parametrize("fn", [by_float, by_detach, by_data, by_no_grad, straight_through])
def test_a_partial_cut_is_a_note_among_the_problems(fn):
    problems = [p for p in trace(fn, leaf()).problems() if p.kind == "cut"]
    assert problems
    assert all("paths from `w`" in p.message and p.line for p in problems)
    assert all("if that is meant" in p.remedy for p in problems)


def test_a_number_that_is_only_looked_at_is_no_cut():
    def fn(w):
        loss = (X * w).sum()
        if loss.item() > 1e9:
            loss = loss * 2
        history = [float(loss.detach())]
        return loss * 3.25 if history else loss

    graph = trace(fn, leaf())
    assert not [p for p in graph.problems() if p.kind == "cut"]
    assert graph.check()


def log_sum_exp(x):
    top = x.max().detach()
    return top + torch.log(torch.exp(x - top).sum())


def test_a_detached_shift_that_cancels_is_certified():
    assert trace(log_sum_exp, leaf((1.0, 2.0, 0.5))).check()


def test_training_mode_is_certified_and_leaves_the_module_alone():
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1)
    )
    graph = trace(module, torch.randn(8, 3))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert graph.check()
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_a_hook_that_alters_a_gradient_is_not_certified():
    def fn(a):
        y = a**2
        y.register_hook(lambda g: g * 10)
        return y * 2

    graph = trace(fn, leaf(3.0))
    assert graph["a"].grad == 120
    (verdict,) = graph.check().leaves
    assert verdict.outcome == "wrong"
    assert "hook" in verdict.note
    assert "differences agree" not in graph.explain("a")


def test_checking_makes_no_step_of_training_again():
    calls = []

    def step(w):
        calls.append(1)
        loss = (w * w.detach()).sum()
        loss.backward()
        return loss

    trace(step, leaf()).check()
    assert len(calls) == 1


def test_checking_prints_nothing_again(capsys):
    def fn(w):
        print("once")
        return (w**2).sum()

    assert trace(fn, leaf()).check()
    assert capsys.readouterr().out == "once\n"


def test_a_cut_of_every_path_is_still_none():
    (problem,) = trace(lambda w, v: (w.detach() * v).sum(), leaf(), leaf()).problems()
    assert problem.kind == "none"
    assert problem.message.startswith("the gradient of `w` is None")
