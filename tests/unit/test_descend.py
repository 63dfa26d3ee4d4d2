"""The loop of a descent: what it records, what it keeps, and each of its exits."""

import math
import pickle
import time

import numpy as np
import pytest
import torch
from descents import START, by_hand, line
from torch import nn

from gradfit import descend
from gradfit.errors import InputError, ModelError, StopFit

LINE = line()


def bowl(a, b):
    """A quadratic with curvatures 2 and 20, least at (1, -2)."""
    return (a - 1) ** 2 + 10 * (b + 2) ** 2


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


# -- oscillation, in words -------------------------------------------------------------------------


def test_steps_that_are_too_long_are_called_an_oscillation():
    # The curvature along b grows outwards, so that a step too long for the minimum stays bounded.
    def loss(b):
        return torch.log(torch.cosh(3 * b))

    run = descend(loss, {"b": 1.0}, lr=0.4, epochs=100)
    assert run.verdict == "oscillating"
    assert "jump across the valley" in run.diagnosis


def test_a_descent_on_its_way_is_told_to_go_on():
    run = descend(bowl, START, lr=0.01, epochs=40)
    assert run.verdict == "improving"
    assert "more `epochs`" in run.diagnosis


def test_a_crawl_is_explained_with_the_condition_number_and_steps():
    run = descend(LINE.loss, START, lr=1e-5, epochs=1000)
    curvatures = np.linalg.eigvalsh(run.hessian)
    assert run.condition == pytest.approx(curvatures[1] / curvatures[0], rel=1e-12)
    expected = math.log(100) / (1e-5 * curvatures[0])
    assert "6,700,000 steps" in run.diagnosis
    assert expected == pytest.approx(6.7e6, rel=0.01)
    assert "1.36e4 times more across the valley than along it" in run.diagnosis
    assert "the direction along it is mostly `b`" in run.diagnosis


def test_steps_to_one_percent_are_what_the_words_say():
    k = 400.0

    def valley(a, b):
        return 0.5 * (k * a**2 + b**2)

    run = descend(valley, {"a": 1.0, "b": 1.0}, lr=1 / k, epochs=30)
    steps = run.valley.steps(1 / k)
    arrived = descend(valley, {"a": 1.0, "b": 1.0}, lr=1 / k, epochs=round(steps))
    assert arrived.path["b"][-1] == pytest.approx(0.01, rel=0.01)
    assert run.valley.best_lr == pytest.approx(2 / (k + 1), rel=1e-12)


def test_the_gain_still_to_come_is_exact_for_a_quadratic():
    run = descend(bowl, START, lr=0.001, epochs=10)
    assert run.valley.gain == pytest.approx(run.loss, rel=1e-12)
    np.testing.assert_allclose(
        run.valley.move, [1 - run.params["a"], -2 - run.params["b"]], rtol=1e-12
    )


def test_curvature_is_the_hessian_of_autograd():
    run = descend(LINE.loss, START, lr=1e-5, epochs=100)
    at = tuple(torch.tensor(run.params[n], dtype=torch.float64) for n in "ab")
    rows = torch.autograd.functional.hessian(LINE.loss, at)
    np.testing.assert_allclose(run.hessian, [[h.item() for h in row] for row in rows], rtol=1e-12)


def test_a_saddle_is_no_minimum():
    run = descend(lambda a, b: a**2 - b**2 + b**4, {"a": 1.0, "b": 0.0}, lr=0.1)
    assert (run.verdict, run.status.name, run.success) == ("saddle", "SADDLE", False)
    assert "bends down along `b`" in run.diagnosis
    assert run.condition == math.inf


def test_a_flat_direction_is_named():
    run = descend(lambda a, b: (a - 1) ** 2 + 0 * b, {"a": 0.0, "b": 3.0}, lr=0.1)
    assert (run.verdict, run.status.name, run.success) == ("flat", "SINGULAR", False)
    assert "mostly `b`" in run.diagnosis


def once(backward):
    """Return a square whose backward is the given function."""

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            ctx.save_for_backward(a)
            return a * a

    Square.backward = staticmethod(backward)
    return Square


def leaves_torch(ctx, g):
    (a,) = ctx.saved_tensors
    return g * torch.from_numpy(np.asarray(2 * a.detach().numpy()))


@torch.autograd.function.once_differentiable
def forbids(ctx, g):
    (a,) = ctx.saved_tensors
    return 2 * a * g


@pytest.mark.parametrize("backward", [leaves_torch, forbids])
@pytest.mark.parametrize("outer", [torch.exp, torch.Tensor.clone])
def test_a_loss_without_second_derivatives_has_no_condition_number(backward, outer):
    square = once(backward).apply
    run = descend(lambda a: outer(square(a - 1)), {"a": 0.3}, lr=0.1, epochs=5)
    assert math.isnan(run.condition)
    assert run.verdict == "improving"


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


# -- kinds of parameters ---------------------------------------------------------------------------


def test_parameters_come_back_as_the_kind_they_went_in():
    given = torch.zeros(2, dtype=torch.float32)
    start = {"n": 1, "v": np.array([1.0, 2.0]), "t": given, "l": [0.5, 0.25]}

    def loss(n, v, t, l):  # noqa: E741
        return (n - 3) ** 2 + (v**2).sum() + ((t - 1) ** 2).sum() + (l**2).sum()

    run = descend(loss, start, lr=0.3, epochs=60)
    assert isinstance(run.params["n"], float)
    assert isinstance(run.params["v"], np.ndarray)
    assert isinstance(run.params["l"], np.ndarray)
    assert run.params["t"].dtype == torch.float32
    assert not run.params["t"].requires_grad
    assert torch.equal(given, torch.zeros(2))
    assert run.params["n"] == pytest.approx(3)
    assert run.path["v"].shape == (len(run.steps), 2)
    assert sorted(run.columns) == ["l[0]", "l[1]", "n", "t[0]", "t[1]", "v[0]", "v[1]"]
    np.testing.assert_array_equal(run.path["t"][0], [0, 0])


def test_a_module_is_left_at_its_best_step_with_tensors_of_its_own():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    x = torch.linspace(-1, 1, 30)[:, None]
    run = descend(lambda: ((net(x) - x**2) ** 2).mean(), net, optimizer="adam", lr=0.05, epochs=80)
    assert run.names == tuple(name for name, _ in net.named_parameters())
    with torch.no_grad():
        assert ((net(x) - x**2) ** 2).mean().item() == pytest.approx(run.loss, rel=1e-6)
    storages = {p.untyped_storage().data_ptr() for p in net.parameters()}
    assert len(storages) == len(run.names)
    assert all(p.grad is None for p in net.parameters())


def test_frozen_parameters_of_a_module_stay():
    net = nn.Linear(2, 1)
    net.bias.requires_grad_(False)
    bias = net.bias.clone()
    run = descend(lambda: (net(torch.ones(3, 2)) ** 2).mean(), net, lr=0.1, epochs=5)
    assert run.names == ("weight",)
    assert torch.equal(net.bias, bias)


def test_a_module_gets_its_tensors_back_after_an_error():
    net = nn.Linear(1, 1)
    with pytest.raises(ModelError, match="must return one number"):
        descend(lambda: net(torch.ones(3, 1)), net, lr=0.1)
    assert len({p.untyped_storage().data_ptr() for p in net.parameters()}) == 2


def test_values_that_the_backward_pass_needs_are_safe_from_its_gradients():
    # a*a saves `a` itself; gradients that share its version would make it look changed.
    run = descend(lambda a, b: (1 - a) ** 2 + 100 * (b - a * a) ** 2, START, lr=1e-3, epochs=10)
    assert run.n_steps == 10


# -- wrong input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "match"),
    [
        ({}, "`start` is empty"),
        ({"a": "x", "b": 0.0}, "`a` must be a real number, an array or a tensor; str came"),
        ({"a": True, "b": 0.0}, "`a` must be a real number"),
        ({"a": 1j, "b": 0.0}, "`a` must be a real number"),
        ({"a": math.nan, "b": 0.0}, "`a` must be finite; nan came"),
        ({"a": [0.0, math.inf], "b": 0.0}, "`a` must be finite; inf came"),
        ([0.0, 0.0], "`start` must be a dict"),
        ({"a": 0.0}, "`b` is missing"),
        ({"a": 0.0, "b": 0.0, "c": 0.0}, "`c` is no argument of it"),
        ({"a": 0.0, "bb": 0.0}, r"`bb` is no argument of it \(did you mean `b`\?\)"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(start, match):
    with pytest.raises(InputError, match=match):
        descend(bowl, start, lr=0.1)


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"lr": 0}, "`lr` must be a positive number; 0 came"),
        ({"lr": math.inf}, "`lr` must be a positive number"),
        ({"lr": True}, "`lr` must be a positive number"),
        ({"lr": 0.1, "epochs": -1}, "`epochs` must be a whole number of at least 0"),
        ({"lr": 0.1, "epochs": 1.5}, "`epochs` must be a whole number"),
        ({"lr": 0.1, "patience": 0}, "`patience` must be a whole number of at least 1"),
        ({"lr": 0.1, "record": 1}, "`record` must be a whole number of at least 2"),
        ({"lr": 0.1, "clip": -1.0}, "`clip` must be a positive number"),
        ({"lr": 0.1, "tol": 1.0}, "`tol` must be a number from 0 to below 1"),
        ({"lr": 0.1, "seed": -1}, "`seed` must be a whole number"),
        ({"lr": 0.1, "optimizer": "adamm"}, "`optimizer` 'adamm' is unknown; did you mean 'adam'"),
        ({"lr": 0.1, "optimizer": 3}, "`optimizer` must be a name"),
        ({"lr": 0.1, "optimizer": dict}, "`optimizer` "),
        ({"lr": 0.1, "schedule": "cosin"}, "`schedule` 'cosin' is unknown; did you mean 'cosine'"),
        ({"lr": 0.1, "schedule": 3}, "`schedule` must be a name or a function"),
        ({"lr": 0.1, "schedule": lambda o: o}, "`schedule` must give a scheduler"),
        ({"optimizer": "momentum"}, '`lr` is needed for `optimizer="momentum"`'),
        ({"schedule": "cosine"}, "`lr` is needed; give a step size"),
        ({"clear_grad": False}, "`lr` is needed"),
        ({"schedule": "auto", "optimizer": "adam"}, "leave out `optimizer`"),
        ({"schedule": "auto", "clip": 1.0}, "cannot go with `clip`"),
        ({"schedule": "auto", "clear_grad": False}, "cannot go with `clear_grad=False`"),
        ({"optimizer": "lbfgs", "clear_grad": False}, "cannot go with LBFGS"),
        ({"lr": 0.1, "checkpoint": "no/such/folder/x.pt"}, "the folder no.such.folder does not"),
        ({"lr": 0.1, "resume": "no.pt"}, "there is no file no.pt"),
    ],
)
def test_wrong_settings_are_refused_before_the_first_evaluation(asked, match):
    def never(a, b):
        raise RuntimeError("evaluated")

    with pytest.raises(InputError, match=match):
        descend(never, START, **asked)


def test_a_loss_that_is_no_function_is_refused():
    with pytest.raises(InputError, match="`loss` must be a function; float came"):
        descend(3.0, START, lr=0.1)


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        (lambda a, b: torch.tensor(1.0, requires_grad=True) * 2, "never touches `a`, `b`"),
        (lambda a, b: torch.tensor(1.0), "never touches its parameters"),
        (lambda a, b: (a.detach() + b.detach()) ** 2, "never touches its parameters"),
        (lambda a, b: a**2 + b.item(), "never touches `b`"),
        (lambda a, b: a.item() ** 2, "must return a torch tensor with one number; float came"),
        (lambda a, b: a * torch.ones(3), r"shape \(3,\) with 3 numbers came"),
        (lambda a, b: None, "NoneType came"),
        (lambda a, b: a @ b, "`loss` failed at the start values: RuntimeError"),
        (lambda a, b: 1 / 0, "`loss` failed at the start values: ZeroDivisionError"),
    ],
)
def test_a_loss_that_cannot_be_descended_says_why(loss, match):
    with pytest.raises(ModelError, match=match):
        descend(loss, START, lr=0.1)


def test_a_graph_that_was_used_up_is_explained():
    shared = torch.tensor(1.0, requires_grad=True).exp()
    shared.backward()
    with pytest.raises(ModelError, match="cannot be differentiated: Trying to backward"):
        descend(lambda a: a * shared, {"a": 1.0}, lr=0.1)


def test_a_module_that_the_loss_never_touches_is_an_error_but_an_unused_layer_is_not():
    net = nn.ModuleDict({"used": nn.Linear(1, 1), "idle": nn.Linear(1, 1)})
    x = torch.ones(2, 1)
    run = descend(lambda: (net["used"](x) ** 2).mean(), net, lr=0.1, epochs=3)
    assert not run.grads["idle.weight"].any()
    with pytest.raises(ModelError, match=r"never touches `used\.weight`"):
        descend(lambda: torch.ones(1, requires_grad=True).sum() * 2, net, lr=0.1)


def test_a_module_without_anything_to_move_is_refused():
    with pytest.raises(InputError, match="no parameter of ReLU requires a gradient"):
        descend(lambda: torch.ones(()), nn.ReLU(), lr=0.1)
    with pytest.raises(InputError, match="`weight` has no shape yet"):
        descend(lambda: torch.ones(()), nn.LazyLinear(2), lr=0.1)


def test_a_loss_with_arguments_beside_a_module_is_refused():
    net = nn.Linear(1, 1)
    with pytest.raises(InputError, match=r"must take no argument when `start` is a module"):
        descend(lambda x: net(x), net, lr=0.1)
    with pytest.raises(InputError, match=r"must take the batch and nothing else"):
        descend(lambda: net(torch.ones(1)), net, lr=0.1, data=[torch.ones(1)])


def test_names_by_place_only_are_found():
    def loss(b, a, /):
        return bowl(a, b)

    by_place = descend(loss, START, lr=0.01, epochs=5)
    by_name = descend(bowl, START, lr=0.01, epochs=5)
    assert by_place.params == by_name.params


def test_arguments_with_defaults_need_no_start():
    def loss(a, b, power=2, *, shift=1.0, **rest):
        return (a - shift) ** power + b**power

    assert descend(loss, START, lr=0.1, epochs=3).names == ("a", "b")


# -- the result ------------------------------------------------------------------------------------


def test_a_result_survives_a_pickle_and_says_what_it_lost():
    run = descend(lambda a, b: bowl(a, b), START, lr=0.01, epochs=5)
    again = pickle.loads(pickle.dumps(run))
    assert again.summary() == run.summary()
    assert repr(again.to_dict()) == repr(run.to_dict())
    with pytest.raises(ModelError, match="could not be pickled with this result"):
        again.landscape()


def test_a_named_loss_survives_a_pickle():
    run = descend(bowl, START, lr=0.01, epochs=5)
    again = pickle.loads(pickle.dumps(run))
    assert again.source.loss is bowl


def test_plain_data_hold_nothing_but_plain_values():
    def kinds(value):
        if isinstance(value, dict):
            return set().union(*map(kinds, value.values()))
        return set().union(*map(kinds, value)) if isinstance(value, list) else {type(value)}

    run = descend(bowl, START, lr=0.01, epochs=5)
    assert kinds(run.to_dict()) <= {float, int, str, bool}
    assert run.to_dict()["params"] == run.params


def test_summary_tells_values_loss_work_and_diagnosis():
    run = descend(LINE.loss, START, lr=1e-5, epochs=1000)
    text = run.summary()
    assert "Gradient descent, sgd, lr 1e-5" in text
    assert "NOT CONVERGED (MAX_EPOCHS)" in text
    assert "condition number" in text
    assert "Crawling:" in text
    assert max(map(len, text.splitlines())) <= 80
    assert repr(run) == text


def test_the_graph_of_the_loss_stands_at_the_best_step():
    run = descend(LINE.loss, START, lr=1e-5, epochs=10)
    graph = run.graph()
    assert float(graph["a"].value) == run.params["a"]
    assert float(graph["a"].grad) == pytest.approx(run.gradient[0], rel=1e-12)


def test_the_graph_of_a_batch_and_of_a_module_opens():
    net = nn.Linear(1, 1)
    batches = [torch.ones(3, 1), torch.zeros(2, 1)]
    run = descend(lambda batch: (net(batch) ** 2).mean(), net, lr=0.1, epochs=2, data=batches)
    graph = run.graph()
    assert any("weight" in name for name in graph.names)
    keyed = descend(lambda *, a, b: bowl(a, b), START, lr=0.01, epochs=2)
    assert float(keyed.graph().result) == keyed.loss == bowl(**keyed.params)


def test_the_film_of_a_descent_stands_at_its_steps():
    run = descend(LINE.loss, START, lr=1e-5, epochs=40)
    film = run.film(5)
    at = [list(run.steps).index(int(label.removeprefix("step "))) for label in film.labels]
    assert (at[0], at[-1], len(at)) == (0, len(run.steps) - 1, 5)
    for graph, index in zip(film, at, strict=True):
        assert float(graph.result) == pytest.approx(run.losses[index], rel=1e-12)
        assert float(graph["a"].grad) == pytest.approx(run.grads["a"][index], rel=1e-12)


def test_the_film_of_a_module_leaves_it_where_the_descent_left_it():
    net = nn.Linear(1, 1)
    x = torch.linspace(0, 1, 5)[:, None]
    run = descend(lambda: ((net(x) - 2 * x) ** 2).mean(), net, lr=0.1, epochs=6)
    before = [p.detach().clone() for p in net.parameters()]
    film = run.film(3)
    assert [float(graph.result) for graph in film] == pytest.approx(
        run.losses[[0, 3, 6]].tolist(), rel=1e-6
    )
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))


def test_a_film_of_nothing_is_refused():
    run = descend(LINE.loss, START, lr=1e-5, epochs=2)
    with pytest.raises(InputError, match="`n` must be a number of frames, at least 1; got 0"):
        run.film(0)
    many = descend(lambda a: (a**2).sum(), {"a": np.ones(200)}, lr=0.1, epochs=2)
    with pytest.raises(InputError, match="more than 128 numbers moved"):
        many.film()


def test_overhead_over_a_loop_by_hand_is_small():
    hand, ours = [], []
    # The least of each: whatever else the machine does only adds. A busy one gets more rounds.
    while len(hand) < 5 or (len(hand) < 25 and min(ours) >= 1.25 * min(hand)):
        began = time.process_time()
        by_hand(LINE.loss, 1e-5, 1000, clear=True)
        hand.append(time.process_time() - began)
        began = time.process_time()
        descend(LINE.loss, START, lr=1e-5, epochs=1000)
        ours.append(time.process_time() - began)
    assert min(ours) < 1.25 * min(hand)
