"""The loop of a descent: what it records, what it keeps, and each of its exits."""

import math

import numpy as np
import pytest
import torch
from descents import START, bowl, by_hand, line

from gradfit import descend
from gradfit.errors import StopFit

LINE = line()


class FakeClock:
    """Raises on its n-th call whatever it was told to."""

    def __init__(self, loss, calls, error):
        self.loss, self.left, self.error = loss, calls, error

    def __call__(self, a, b):
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.loss(a, b)


# -- the story -------------------------------------------------------------------------------------


def test_cleared_gradients_reach_the_slope_and_leave_b_where_it_started():
    run = descend(LINE.loss, START, lr=1e-5, epochs=1000)
    assert run.params["a"] == pytest.approx(LINE.a, rel=0.02)
    assert abs(run.params["b"]) < 0.05 < 0.5 < LINE.b
    assert run.verdict == "crawling"
    assert run.n_steps == 1000
    assert run.n_eval == 1001


def test_the_loop_by_hand_walks_the_same_way():
    losses, way = by_hand(LINE.loss, 1e-5, 1000, clear=True)
    run = descend(LINE.loss, START, lr=1e-5, epochs=1000)
    np.testing.assert_allclose(run.losses, losses, rtol=1e-12)
    np.testing.assert_allclose(np.c_[run.path["a"], run.path["b"]], way, rtol=1e-12)


def test_gradients_that_are_never_cleared_swing_as_the_printed_loop_does():
    losses, way = by_hand(LINE.loss, 1e-5, 1000, clear=False)
    run = descend(LINE.loss, START, lr=1e-5, epochs=1000, clear_grad=False)
    np.testing.assert_allclose(run.losses, losses, rtol=1e-9)
    np.testing.assert_allclose(np.c_[run.path["a"], run.path["b"]], way, rtol=1e-9)
    assert run.losses[-1] > 100 * run.loss
    assert run.best_step == int(np.argmin(losses))
    assert run.verdict == "uncleared"
    assert "never cleared" in run.diagnosis
    assert "momentum without friction" in run.diagnosis


def test_a_small_swing_takes_the_period_that_the_diagnosis_names():
    lr, curvature = 1e-4, 4.0
    period = 2 * math.pi / math.sqrt(lr * curvature)
    run = descend(lambda a: 2 * a**2, {"a": 1.0}, lr=lr, epochs=3000, clear_grad=False)
    crossings = np.flatnonzero(np.diff(np.sign(run.path["a"])))
    assert np.diff(run.steps[crossings]).mean() * 2 == pytest.approx(period, rel=0.01)
    assert "takes 2π/√(lr·curvature) = 3.1e2 steps" in run.diagnosis
    assert "swings instead of settling" in run.diagnosis


def test_recorded_gradients_are_those_of_autograd():
    run = descend(LINE.loss, START, lr=1e-5, epochs=20)
    for k in range(21):
        leaves = [
            torch.tensor(float(run.path[n][k]), dtype=torch.float64, requires_grad=True)
            for n in "ab"
        ]
        grads = torch.autograd.grad(LINE.loss(*leaves), leaves)
        assert [run.grads[n][k] for n in "ab"] == [g.item() for g in grads]
        assert run.grad_norms[k] == pytest.approx(math.hypot(*(g.item() for g in grads)), rel=1e-15)


def test_gradients_added_up_are_recorded_as_they_stand():
    cleared = descend(bowl, START, lr=0.0123, epochs=3)
    summed = descend(bowl, START, lr=0.0123, epochs=3, clear_grad=False)
    assert summed.grads["a"][0] == cleared.grads["a"][0]
    fresh = 2 * (float(summed.path["a"][1]) - 1)
    assert summed.grads["a"][1] == pytest.approx(summed.grads["a"][0] + fresh, rel=1e-15)


# -- exits -----------------------------------------------------------------------------------------


def test_converged_when_the_gradient_vanished():
    run = descend(bowl, START, lr=0.05, epochs=10_000)
    assert run.status.name == "CONVERGED"
    assert run.success
    assert run.params["a"] == pytest.approx(1, abs=1e-8)
    assert run.params["b"] == pytest.approx(-2, abs=1e-8)
    assert run.n_steps < 500


def test_converged_at_once_when_it_starts_at_the_minimum():
    run = descend(bowl, {"a": 1.0, "b": -2.0}, lr=0.01)
    assert (run.status.name, run.n_steps, run.loss) == ("CONVERGED", 0, 0.0)


def test_a_small_gradient_in_a_long_valley_is_not_convergence():
    def valley(a, b):
        return 1e6 * (a - 1) ** 2 + 1e-5 * (b - 1) ** 2

    run = descend(valley, START, lr=5e-7, epochs=50)
    assert run.grad_norms[-1] < 1e-10 * run.grad_norms.max()
    assert run.status.name == "MAX_EPOCHS"
    assert run.verdict == "crawling"


def test_all_epochs_done():
    run = descend(bowl, START, lr=1e-3, epochs=7)
    assert (run.status.name, run.n_steps, run.n_eval) == ("MAX_EPOCHS", 7, 8)
    assert not run.success
    assert list(run.steps) == list(range(8))


def test_no_epochs_evaluate_the_start_only():
    run = descend(bowl, START, lr=1e-3, epochs=0)
    assert (run.n_steps, run.n_eval, run.loss, run.params) == (0, 1, 41.0, START)


def test_patience_stops_when_the_best_no_longer_improves():
    # b jumps to and fro between 0 and -4 for ever.
    run = descend(bowl, {"a": 1.0, "b": 0.0}, lr=0.1, epochs=500, patience=10)
    assert (run.status.name, run.n_steps, run.best_step) == ("EARLY_STOP", 10, 0)


def test_divergence_is_stopped_and_the_best_is_kept():
    run = descend(bowl, START, lr=0.2, epochs=10_000)
    assert run.status.name == "DIVERGED"
    assert run.verdict == "diverging"
    assert run.n_steps < 50
    assert (run.best_step, run.params) == (0, START)
    assert f"step {run.n_steps}, best at step 0" in run.message
    assert "must stay below 0.1" in run.diagnosis


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_stops_and_says_at_which_step(bad):
    def loss(a, b):
        return bowl(a, b) + (bad if a.item() > 0.5 else 0.0)

    run = descend(loss, START, lr=0.05)
    broken = int(run.steps[-1])
    assert run.status.name == "NONFINITE"
    assert not math.isfinite(run.losses[-1])
    assert np.isfinite(run.losses[:-1]).all()
    assert run.path["a"][-1] > 0.5 >= run.path["a"][-2]
    assert f"step {broken}, best at step {run.best_step}" in run.message
    assert run.loss == min(run.losses[:-1])
    assert run.verdict == "undefined"
    assert f"at step {broken}" in run.diagnosis


def test_a_gradient_that_is_no_number_is_named():
    run = descend(lambda a, b: torch.sqrt(a) + b**2, {"a": 0.0, "b": 1.0}, lr=0.1)
    assert (run.status.name, run.n_steps, run.loss) == ("NONFINITE", 0, 1.0)
    assert "(for `a`)" in run.diagnosis


def test_a_matrix_that_becomes_singular_ends_the_descent_and_keeps_the_best():
    def loss(a):
        matrix = torch.eye(2, dtype=torch.float64) * (a - 0.5)
        return torch.linalg.cholesky(matrix).sum()

    run = descend(loss, {"a": 2.0}, lr=0.1)
    assert run.status.name == "NONFINITE"
    assert run.loss == run.losses[-1]
    assert "not positive-definite" in run.message
    assert f"After step {run.n_steps} the loss could not be computed" in run.diagnosis


def test_a_mistake_in_the_loss_comes_through_with_its_step():
    def loss(a, b):
        return bowl(a, b) if a.item() < 0.5 else bowl(a, b) + {}["missing"]

    with pytest.raises(KeyError) as caught:
        descend(loss, START, lr=0.05)
    # 1 - a is 0.9**k after k steps, so the seventh update leads to where the loss fails.
    assert caught.value.__notes__ == ["Raised in a descent, after step 6."]


def test_a_start_where_the_loss_is_no_number_ends_there():
    run = descend(lambda a: torch.log(a), {"a": -1.0}, lr=0.1)
    assert (run.status.name, run.n_steps, run.params) == ("NONFINITE", 0, {"a": -1.0})
    assert math.isnan(run.loss)
    assert "at the start values" in run.diagnosis


def test_steps_lost_in_rounding_are_a_stall_and_no_convergence():
    run = descend(bowl, {"a": 3.0, "b": 1.0}, lr=1e-20)
    assert run.status.name == "STALLED"
    assert run.verdict == "stalled"
    assert "lost in rounding" in run.diagnosis
    assert run.n_steps == 0


@pytest.mark.parametrize("calls", [1, 2, 57])
def test_ctrl_c_keeps_the_best_so_far_and_says_so(calls):
    run = descend(FakeClock(bowl, calls, KeyboardInterrupt()), START, lr=0.01)
    alone = descend(bowl, START, lr=0.01, epochs=calls - 1)
    assert run.status.name == "INTERRUPTED"
    assert "best step so far is kept" in run.message
    assert (run.params, run.loss, run.n_steps) == (alone.params, alone.loss, alone.n_steps)


def test_ctrl_c_before_the_first_loss_comes_through():
    with pytest.raises(KeyboardInterrupt):
        descend(FakeClock(bowl, 0, KeyboardInterrupt()), START, lr=0.01)


def test_on_step_sees_every_step_and_may_stop():
    seen = []

    def watch(step):
        seen.append(step)
        if step.step == 5:
            raise StopFit("enough")

    run = descend(bowl, START, lr=0.01, on_step=watch)
    assert (run.status.name, run.n_steps) == ("STOPPED", 5)
    assert "(enough)" in run.message
    assert [s.step for s in seen] == list(range(6))
    assert [s.loss for s in seen] == list(run.losses)
    assert [s.params["a"] for s in seen] == list(run.path["a"])
    assert math.isnan(seen[0].lr)
    assert seen[1].lr == 0.01
    assert seen[-1].best_step == 5


def test_the_best_step_is_kept_and_not_the_last():
    run = descend(bowl, START, lr=0.01, optimizer="momentum", epochs=60)
    best = int(np.argmin(run.losses))
    assert 0 < best < 60
    assert (run.best_step, run.loss) == (best, run.losses[best])
    assert run.params == {n: run.path[n][best] for n in "ab"}
    with torch.no_grad():
        assert bowl(*(torch.tensor(run.params[n], dtype=torch.float64) for n in "ab")) == run.loss


def test_no_evaluation_follows_an_exit():
    calls = []

    def loss(a, b):
        calls.append(a.item())
        return bowl(a, b) + (math.nan if len(calls) == 4 else 0.0)

    run = descend(loss, START, lr=0.01)
    assert (run.status.name, run.n_eval) == ("NONFINITE", 4)
    # What follows is the curvature at the best step, and whether it can be trusted.
    np.testing.assert_allclose(calls[4:], [run.params["a"]] * 2, rtol=1e-2)


# -- recording -------------------------------------------------------------------------------------


def test_a_long_way_is_thinned_evenly_and_keeps_start_best_and_last():
    run = descend(bowl, START, lr=1e-4, epochs=1001, record=100)
    full = descend(bowl, START, lr=1e-4, epochs=1001)
    assert len(full.steps) == 1002
    assert 50 <= len(run.steps) <= 102
    assert set(np.diff(run.steps[:-1])) == {16}
    assert run.steps[0] == 0
    assert run.steps[-1] == 1001
    np.testing.assert_array_equal(run.losses, full.losses[run.steps])
    np.testing.assert_array_equal(run.path["a"], full.path["a"][run.steps])
    np.testing.assert_array_equal(run.grads["b"], full.grads["b"][run.steps])
    assert run.params == full.params


def test_many_parameters_keep_norms_but_no_path():
    run = descend(lambda w: ((w - 1) ** 2).sum(), {"w": np.zeros(200)}, lr=0.1, epochs=20)
    assert run.path == {}
    assert run.grads == {}
    assert run.grad_norms[0] == pytest.approx(2 * math.sqrt(200))
    assert run.params["w"] == pytest.approx(1 - 0.8**20)
    assert len(run.hessian) == 0
