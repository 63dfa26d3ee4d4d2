"""The eager run beside another run, and beside what torch captures."""

import importlib
import shutil

import pytest
import torch
from torch import nn

from gradfit.errors import TraceError
from gradfit.graph import trace


def leaf(value):
    return torch.tensor(value, requires_grad=True)


def loss(a, b, x):
    r = a * x - b
    return torch.mean(r**2)


def branch(a, x):
    if (a * x).sum() > 0:
        return (a * x).sum()
    return (a - x).sum()


def run(a=2.0):
    return trace(loss, leaf(a), leaf(1.0), torch.arange(4.0))


def test_two_runs_of_one_function_agree():
    comparison = run().compare(run())
    assert comparison
    assert comparison.n_eager == comparison.n_captured == 4
    assert not comparison.breaks
    assert "same result: yes" in str(comparison)


def test_two_runs_on_other_numbers_differ_by_so_much():
    comparison = run().compare(run(3.0))
    assert not comparison
    assert not comparison.same_result
    assert comparison.gradient_differences["a"] == pytest.approx((29 - 18) / 18 / 1, rel=0.5)


def test_the_branch_that_made_two_runs_differ_is_named():
    x = torch.ones(2)
    comparison = trace(branch, leaf(1.0), x).compare(trace(branch, leaf(-1.0), x))
    assert not comparison
    assert "`(a * x).sum() > 0` -> True" in str(comparison)
    assert "-> False" in str(comparison)


def test_a_question_that_does_not_exist_is_refused():
    with pytest.raises(TraceError, match='must be a graph, "export" or "compile"'):
        run().compare("magic")


@pytest.mark.slow
def test_export_gives_the_same_and_is_matched_by_line():
    comparison = run().compare("export")
    assert comparison, str(comparison)
    first, second = comparison.lines
    assert first.eager == ("*", "-")
    assert first.captured == ("mul", "sub")
    assert second.captured == ("pow", "mean")
    assert first.statement == "r = a * x - b"
    assert comparison.capture_seconds > 0
    assert "the captured program is kept" in str(comparison)


@pytest.mark.slow
def test_export_stops_at_the_branch():
    comparison = trace(branch, leaf(1.0), torch.ones(2)).compare("export")
    assert not comparison
    (stop,) = comparison.breaks
    assert stop.line == branch.__code__.co_firstlineno + 1
    assert "`(a * x).sum() > 0` is True" in stop.reason
    assert "nothing was captured" in str(comparison)


@pytest.mark.slow
def test_compile_falls_into_pieces_at_the_branch():
    comparison = trace(branch, leaf(1.0), torch.ones(2)).compare("compile")
    assert comparison, str(comparison)
    assert comparison.n_graphs == 2
    assert comparison.breaks[0].line == branch.__code__.co_firstlineno + 1


@pytest.mark.slow
def test_modules_are_compared_with_their_parameters():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1))
    before = net[1].running_mean.clone()
    graph = trace(net, torch.randn(6, 2))
    after = net[1].running_mean.clone()
    comparison = graph.compare("export")
    assert comparison, str(comparison)
    assert set(comparison.gradient_differences) >= {"0.weight", "3.bias"}
    assert torch.equal(net[1].running_mean, after)
    assert not torch.equal(before, after)


@pytest.mark.slow
def test_an_unknown_backend_is_refused_with_those_there_are():
    with pytest.raises(TraceError, match="`backend` must be one of .*aot_eager.*'magic' came"):
        run().compare("compile", backend="magic")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_the_compiler_joins_operations_to_kernels():
    comparison = run().compare("compile", backend="inductor")
    assert comparison
    assert comparison.n_kernels is not None
    assert 1 <= comparison.n_kernels < 2 * comparison.n_eager
    assert "kernels with their backward" in str(comparison)


@pytest.mark.slow
def test_without_a_compiler_the_next_best_is_measured_and_said(monkeypatch):
    config = importlib.import_module("torch._inductor.config")
    monkeypatch.setattr(config.cpp, "cxx", ("/nowhere/g++",))

    def other_loss(a, x):
        return (a * x).cos().sum()

    comparison = trace(other_loss, leaf(2.0), torch.arange(4.0)).compare(
        "compile", backend="inductor"
    )
    assert comparison
    assert comparison.remark == (
        "inductor found no working C++ compiler; captured with aot_eager instead"
    )
    assert comparison.remark in str(comparison)
    assert comparison.captured_seconds > 0
