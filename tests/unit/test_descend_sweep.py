"""A sweep of learning rates: every rate as if it were alone, and the range that works."""

import math

import numpy as np
import pytest
import torch
from descents import START, bowl, line
from torch import nn

from gradfit import descend, sweep_lr
from gradfit._descend import sweep as module
from gradfit.errors import InputError, ModelError

LINE = line()


def branchy(a, b):
    return bowl(a, b) if a.item() < 1e300 else a


def test_every_rate_of_a_batch_walks_as_it_does_alone():
    rates = np.geomspace(1e-7, 1e-3, 9)
    sweep = sweep_lr(LINE.loss, START, rates, epochs=40)
    assert sweep.batched
    for k, rate in enumerate(rates):
        alone = descend(LINE.loss, START, lr=rate, epochs=40, tol=0)
        np.testing.assert_allclose(sweep.losses[:, k], alone.losses, rtol=1e-9)
        assert sweep.best_losses[k] == pytest.approx(alone.loss, rel=1e-12)


def test_a_loss_that_cannot_be_vectorised_runs_rate_by_rate():
    rates = [0.001, 0.01, 0.05, 0.2]
    batch = sweep_lr(bowl, START, rates)
    loop = sweep_lr(branchy, START, rates)
    assert (batch.batched, loop.batched) == (True, False)
    finite = np.isfinite(loop.losses) & (loop.losses < 1e100)
    np.testing.assert_allclose(batch.losses[finite], loop.losses[finite], rtol=1e-9)
    assert loop.works == batch.works
    assert loop.best_lr == batch.best_lr


def test_a_loss_that_changes_when_vectorised_is_not_run_as_a_batch():
    class Wrong(torch.autograd.Function):
        generate_vmap_rule = False

        @staticmethod
        def forward(a):
            return a**2

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, g):
            (a,) = ctx.saved_tensors
            return 2 * a * g

        @staticmethod
        def vmap(info, in_dims, a):
            return a**2 + 1, 0

    sweep = sweep_lr(lambda a: Wrong.apply(a - 1), {"a": 0.0}, [0.01, 0.1])
    assert not sweep.batched
    assert sweep.losses[0, 0] == 1.0


def test_the_range_that_works_ends_at_two_over_the_curvature():
    rates = np.linspace(0.01, 0.15, 57)
    sweep = sweep_lr(bowl, START, rates, epochs=400)
    # Stable below 2/20.
    assert sweep.works[1] == pytest.approx(0.1, abs=0.003)
    assert sweep.limit == pytest.approx(0.1, abs=0.003)
    assert sweep.works[0] <= sweep.best_lr <= sweep.works[1]


def test_rates_by_default_reach_from_too_small_to_too_large():
    sweep = sweep_lr(bowl, START)
    assert len(sweep.lrs) == 33
    assert sweep.lrs[0] < 1e-6 < 0.1 < sweep.lrs[-1]
    assert sweep.losses[-1, 0] == pytest.approx(41, rel=1e-2)
    assert not sweep.losses[-1, -1] < 41
    assert sweep.lrs[0] < sweep.works[0] < sweep.works[1] < sweep.limit < 0.3
    assert "Smaller ones are still on their way" in sweep.message


def test_rates_by_default_follow_the_scale_of_the_loss():
    one = sweep_lr(bowl, START)
    other = sweep_lr(lambda a, b: 1000 * bowl(a, b), START)
    np.testing.assert_allclose(other.lrs, one.lrs / 1000, rtol=1e-12)
    assert other.works == pytest.approx([rate / 1000 for rate in one.works])


def test_a_module_is_swept_and_left_as_it_was():
    torch.manual_seed(0)
    net = nn.Linear(3, 20)
    before = [p.detach().clone() for p in net.parameters()]
    x, y = torch.randn(50, 3), torch.randn(50, 20)
    sweep = sweep_lr(lambda: ((net(x) - y) ** 2).mean(), net, epochs=20)
    assert not sweep.batched
    assert sweep.works is not None
    for p, q in zip(net.parameters(), before, strict=True):
        assert torch.equal(p, q)
    alone = descend(lambda: ((net(x) - y) ** 2).mean(), net, lr=sweep.best_lr, epochs=20)
    assert alone.losses[-1] == pytest.approx(np.nanmin(sweep.losses[-1]), rel=1e-5)


def test_nothing_works_when_all_rates_are_too_large():
    sweep = sweep_lr(bowl, START, [1.0, 10.0], epochs=20)
    assert sweep.works is None
    assert math.isnan(sweep.best_lr)
    assert sweep.limit == 1.0
    assert "none lowers the loss" in sweep.message
    sweep.plot()


def test_long_sweeps_are_thinned(monkeypatch):
    monkeypatch.setattr(module, "RECORD", 20)
    sweep = sweep_lr(bowl, START, [1e-4, 1e-3], epochs=150)
    assert len(sweep.steps) == 21
    assert (sweep.steps[0], sweep.steps[-1]) == (0, 150)
    alone = descend(bowl, START, lr=1e-3, epochs=150, tol=0)
    np.testing.assert_allclose(sweep.losses[:, 1], alone.losses[sweep.steps], rtol=1e-8)


def test_a_sweep_is_plain_data():
    sweep = sweep_lr(bowl, START, [0.01, 0.02], epochs=5)
    plain = sweep.to_dict()
    assert plain["lrs"] == [0.01, 0.02]
    assert plain["message"] == repr(sweep)


@pytest.mark.parametrize(
    ("lrs", "epochs", "match"),
    [
        ([], 10, "`lrs` must be positive numbers"),
        ([0.1, -1.0], 10, "`lrs` must be positive numbers"),
        ([math.nan], 10, "`lrs` must be positive numbers"),
        ([0.1], 0, "`epochs` must be a whole number of at least 1"),
    ],
)
def test_wrong_settings_are_refused(lrs, epochs, match):
    with pytest.raises(InputError, match=match):
        sweep_lr(bowl, START, lrs, epochs=epochs)


def test_wrong_losses_are_refused_as_by_a_descent():
    with pytest.raises(InputError, match="`start` must be a dict"):
        sweep_lr(bowl, [0.0])
    with pytest.raises(InputError, match="`b` is missing"):
        sweep_lr(bowl, {"a": 0.0})
    with pytest.raises(ModelError, match="never touches"):
        sweep_lr(lambda a: torch.ones(()), {"a": 0.0})
