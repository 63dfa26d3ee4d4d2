"""What must hold for any descent, whatever the loss."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfit import descend, sweep_lr
from gradfit._descend.rules import optimizers

few = settings(max_examples=15, derandomize=True, deadline=None)
numbers = st.floats(-3, 3).map(lambda v: round(v, 3))
curvatures = st.floats(0.2, 10).map(lambda v: round(v, 3))


def hills(a, b):
    return (a - 1) ** 2 + 3 * (b - a * a) ** 2 + torch.cos(2 * b)


def valley(k, l):  # noqa: E741
    def loss(a, b):
        return k * (a - 1) ** 2 + l * (b + 2) ** 2 + 0.3 * a * b

    return loss


@few
@given(a=numbers, b=numbers, lr=st.floats(1e-4, 0.02))
def test_plain_descent_remembers_nothing(a, b, lr):
    whole = descend(hills, {"a": a, "b": b}, lr=lr, epochs=20, tol=0)
    half = descend(hills, {"a": a, "b": b}, lr=lr, epochs=8, tol=0)
    last = {name: float(half.path[name][-1]) for name in "ab"}
    rest = descend(hills, last, lr=lr, epochs=12, tol=0)
    np.testing.assert_array_equal(np.r_[half.losses, rest.losses[1:]], whole.losses)


@few
@given(a=numbers, b=numbers)
def test_the_order_of_names_and_the_kind_of_numbers_change_nothing(a, b):
    asked = {"lr": 0.01, "epochs": 10}
    plain = descend(hills, {"a": a, "b": b}, **asked)
    others = [
        {"b": b, "a": a},
        {"a": np.float64(a), "b": np.array(b)},
        {"a": torch.tensor(a, dtype=torch.float64), "b": torch.tensor(b, dtype=torch.float64)},
    ]
    for start in others:
        run = descend(hills, start, **asked)
        np.testing.assert_array_equal(run.losses, plain.losses)
        np.testing.assert_array_equal(run.path["a"], plain.path["a"])


@few
@given(power=st.integers(-20, 20), name=st.sampled_from(["sgd", "momentum", "nesterov"]))
def test_the_unit_of_the_loss_trades_with_the_step_size(power, name):
    c = 2.0**power
    run = descend(hills, {"a": 0.3, "b": 0.1}, lr=0.01, optimizer=name, epochs=15)
    scaled = descend(
        lambda a, b: c * hills(a, b), {"a": 0.3, "b": 0.1}, lr=0.01 / c, optimizer=name, epochs=15
    )
    np.testing.assert_array_equal(scaled.path["a"], run.path["a"])
    np.testing.assert_array_equal(scaled.losses, c * run.losses)
    assert scaled.condition == pytest.approx(run.condition, rel=1e-12)


@few
@given(record=st.integers(2, 40), epochs=st.integers(0, 120))
def test_a_thinned_record_is_part_of_the_full_one(record, epochs):
    full = descend(hills, {"a": 0.3, "b": 0.1}, lr=0.02, optimizer="momentum", epochs=epochs)
    thin = descend(
        hills, {"a": 0.3, "b": 0.1}, lr=0.02, optimizer="momentum", epochs=epochs, record=record
    )
    assert len(thin.steps) <= record + 2
    assert {0, thin.best_step, full.n_steps} <= set(thin.steps.tolist())
    np.testing.assert_array_equal(thin.losses, full.losses[thin.steps])
    np.testing.assert_array_equal(thin.grads["b"], full.grads["b"][thin.steps])
    assert (thin.params, thin.loss, thin.best_step) == (full.params, full.loss, full.best_step)


@few
@given(a=numbers, b=numbers, lr=st.floats(1e-3, 0.3), clear=st.booleans())
def test_no_step_is_better_than_the_best(a, b, lr, clear):
    run = descend(hills, {"a": a, "b": b}, lr=lr, epochs=40, clear_grad=clear)
    finite = run.losses[np.isfinite(run.losses)]
    assert run.loss <= finite.min() + 1e-13 * abs(finite.min())
    at = {n: torch.tensor(run.params[n], dtype=torch.float64) for n in "ab"}
    assert hills(**at).item() == run.loss


@few
@given(
    stop=st.integers(0, 29),
    name=st.sampled_from(sorted(set(optimizers()) - {"muon", "lbfgs"})),
    schedule=st.sampled_from(["constant", "cosine", "plateau"]),
)
def test_resuming_anywhere_is_bit_equal(stop, name, schedule):
    asked = {"lr": 0.01, "optimizer": name}
    # A schedule by name spans all epochs, so the first part must know how many there will be.
    if schedule != "constant":
        asked["schedule"] = {
            "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 30),
            "plateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=2),
        }[schedule]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.pt"
        descend(hills, {"a": 0.3, "b": 0.1}, epochs=stop, checkpoint=file, **asked)
        rest = descend(hills, {"a": 0.3, "b": 0.1}, epochs=30, resume=file, **asked)
    whole = descend(hills, {"a": 0.3, "b": 0.1}, epochs=30, **asked)
    np.testing.assert_array_equal(rest.losses, whole.losses)
    np.testing.assert_array_equal(rest.lrs, whole.lrs)
    assert rest.params == whole.params


@few
@given(k=curvatures, l=curvatures, a=numbers, b=numbers)
def test_automatic_steps_solve_any_quadratic(k, l, a, b):  # noqa: E741
    H = np.array([[2 * k, 0.3], [0.3, 2 * l]])
    solution = np.linalg.solve(H, [2 * k, -4 * l])
    run = descend(valley(k, l), {"a": a, "b": b})
    assert run.success
    np.testing.assert_allclose([run.params["a"], run.params["b"]], solution, atol=1e-7)


@few
@given(k=curvatures, l=curvatures, lr=st.floats(1e-3, 0.3))
def test_the_valley_says_what_a_constant_step_will_do(k, l, lr):  # noqa: E741
    run = descend(valley(k, l), {"a": 0.0, "b": 0.0}, lr=1e-3, epochs=1)
    H = np.array([[2 * k, 0.3], [0.3, 2 * l]])
    steepest = np.linalg.eigvalsh(H)[-1]
    assert run.valley.steepest == pytest.approx(steepest, rel=1e-9)
    assert np.isinf(run.valley.steps(lr)) == (lr * steepest >= 2)


@few
@given(rates=st.lists(st.floats(1e-5, 0.5), min_size=1, max_size=8, unique=True))
def test_a_rate_in_a_sweep_is_the_rate_alone(rates):
    sweep = sweep_lr(hills, {"a": 0.3, "b": 0.1}, rates, epochs=12)
    for k, lr in enumerate(sorted(rates)):
        alone = descend(hills, {"a": 0.3, "b": 0.1}, lr=lr, epochs=12, tol=0).losses
        ours = sweep.losses[: len(alone), k]
        sane = np.abs(alone) < 1e6
        np.testing.assert_allclose(ours[sane], alone[sane], rtol=1e-6)
