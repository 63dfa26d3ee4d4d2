"""Every optimizer and schedule of torch walks as it does in a loop by hand."""

import functools
import math

import numpy as np
import pytest
import torch
from descents import START, bowl, line
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from gradfit import descend
from gradfit._descend.rules import optimizers
from gradfit.errors import InputError

NAMES = sorted(set(optimizers()) - {"muon"})


def by_torch(loss, make, epochs, schedule=None, clip=None):
    """A loop by hand with an optimizer of torch; returns its losses and its way."""
    leaves = [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2)]
    optimizer = make(leaves)
    scheduler = schedule(optimizer) if schedule else None
    losses, way = [], []

    def closure():
        optimizer.zero_grad()
        value = loss(*leaves)
        value.backward()
        return value

    for epoch in range(epochs + 1):
        value = closure()
        losses.append(value.item())
        way.append([leaf.item() for leaf in leaves])
        if epoch == epochs:
            break
        if clip:
            nn.utils.clip_grad_norm_(leaves, clip)
        optimizer.step(*[closure] * isinstance(optimizer, torch.optim.LBFGS))
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            with torch.no_grad():
                scheduler.step(loss(*leaves).item())
        elif scheduler:
            scheduler.step()
    return losses, way


def walked(run):
    return np.c_[run.path["a"], run.path["b"]]


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_by_name_walks_as_in_a_loop_by_hand(name):
    lr, epochs = 0.02, 15
    losses, way = by_torch(bowl, lambda leaves: optimizers()[name](leaves, lr=lr), epochs)
    run = descend(bowl, START, optimizer=name, lr=lr, epochs=epochs, tol=0)
    np.testing.assert_allclose(run.losses, losses, rtol=1e-9)
    np.testing.assert_allclose(walked(run), way, rtol=1e-9)
    assert run.loss < run.losses[0]


def test_every_optimizer_of_torch_has_a_name_or_a_reason():
    classes = {
        name.lower()
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
    }
    assert classes - set(optimizers()) == {"optimizer", "sparseadam"}


def test_muon_moves_matrices():
    run = descend(
        lambda w: ((w - 1) ** 2).sum(),
        {"w": np.zeros((3, 4))},
        optimizer="muon",
        lr=0.05,
        epochs=100,
    )
    assert run.loss < 0.1 * run.losses[0]
    with pytest.raises(InputError, match="`optimizer` could not be made: Muon only supports 2D"):
        descend(bowl, START, optimizer="muon", lr=0.1)


def test_lbfgs_evaluates_what_it_needs_and_no_more():
    calls = []

    def loss(a, b):
        calls.append(None)
        return bowl(a, b)

    run = descend(loss, START, optimizer="lbfgs", epochs=10)
    assert run.success
    assert run.params["b"] == pytest.approx(-2, abs=1e-6)
    by_hand_calls = []

    def counted(a, b):
        by_hand_calls.append(None)
        return bowl(a, b)

    by_torch(counted, lambda leaves: torch.optim.LBFGS(leaves), run.n_steps)
    # A loop by hand evaluates each step's beginning twice.
    assert run.n_eval <= len(by_hand_calls) - run.n_steps + 1


@pytest.mark.parametrize(
    "asked",
    [
        torch.optim.Adam,
        lambda params, lr: torch.optim.Adam(params, lr=lr),
        functools.partial(torch.optim.Adam, betas=(0.9, 0.999)),
    ],
)
def test_classes_and_functions_make_optimizers_too(asked):
    by_name = descend(bowl, START, optimizer="adam", lr=0.1, epochs=10)
    run = descend(bowl, START, optimizer=asked, lr=0.1, epochs=10)
    assert run.params == by_name.params
    assert run.optimizer.lower() == "adam"


def test_a_function_may_choose_its_own_step_size():
    run = descend(bowl, START, optimizer=lambda p: torch.optim.RMSprop(p, lr=0.03), epochs=3)
    assert (run.lr, run.optimizer) == (0.03, "RMSprop")
    with pytest.raises(InputError, match="`optimizer` could not be made: .* parameters and `lr`"):
        descend(bowl, START, optimizer=lambda p: torch.optim.RMSprop(p), lr=0.1)
    with pytest.raises(InputError, match=r"must give a torch\.optim\.Optimizer"):
        descend(bowl, START, optimizer=lambda p: None)


def test_without_lr_an_optimizer_uses_its_own():
    assert descend(bowl, START, optimizer="adam", epochs=3).lr == 1e-3


def test_an_optimizer_of_a_modules_parameters_is_taken_as_it_is():
    net = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.5)
    x = torch.ones(4, 1)
    run = descend(lambda: ((net(x) - 3) ** 2).mean(), net, optimizer=optimizer, epochs=30)
    assert run.loss < 1e-3
    with pytest.raises(InputError, match="`lr` cannot be changed"):
        descend(lambda: net(x).mean(), net, optimizer=optimizer, lr=0.1)
    with pytest.raises(InputError, match="`optimizer` holds none of the parameters"):
        descend(bowl, START, optimizer=optimizer)


SCHEDULES = {
    "step": lambda o: lr_scheduler.StepLR(o, 10, 0.1),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.01 ** (1 / 30)),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 30),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=10),
}


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_schedules_by_name_are_those_of_torch(name, optimizer):
    lr = 0.09
    losses, way = by_torch(
        bowl, lambda leaves: optimizers()[optimizer](leaves, lr=lr), 30, SCHEDULES[name]
    )
    run = descend(bowl, START, lr=lr, optimizer=optimizer, schedule=name, epochs=30, tol=0)
    np.testing.assert_allclose(run.losses, losses, rtol=1e-9)
    np.testing.assert_allclose(walked(run), way, rtol=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda o: lr_scheduler.MultiStepLR(o, [3, 6]),
        lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=30),
        lambda o: lr_scheduler.LambdaLR(o, lambda k: min(1.0, k / 5)),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 7),
        lambda o: lr_scheduler.CyclicLR(o, 0.001, 0.05),
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)], [4]
        ),
    ],
)
def test_any_schedule_can_be_made_by_a_function(make):
    losses, _ = by_torch(bowl, lambda leaves: torch.optim.SGD(leaves, lr=0.02), 20, make)
    run = descend(bowl, START, lr=0.02, schedule=make, epochs=20, tol=0)
    np.testing.assert_allclose(run.losses, losses, rtol=1e-9)


def test_recorded_step_sizes_are_those_that_led_there():
    run = descend(bowl, START, lr=0.02, schedule="step", epochs=9)
    assert math.isnan(run.lrs[0])
    np.testing.assert_allclose(run.lrs[1:], [0.02] * 3 + [2e-3] * 3 + [2e-4] * 3)
    moved = np.diff(run.path["a"])
    np.testing.assert_allclose(moved, -run.lrs[1:] * run.grads["a"][:-1], rtol=1e-9)


@pytest.mark.parametrize("clip", [0.5, 30.0, 1e6])
def test_clipping_is_that_of_torch(clip):
    losses, _ = by_torch(bowl, lambda leaves: torch.optim.SGD(leaves, lr=0.02), 20, clip=clip)
    run = descend(bowl, START, lr=0.02, clip=clip, epochs=20)
    # torch adds 1e-6 to the norm before it divides.
    np.testing.assert_allclose(run.losses, losses, rtol=1e-5)
    assert run.grad_norms[0] == pytest.approx(math.hypot(2, 40))


def test_clipping_saves_a_descent_that_diverges():
    assert not descend(bowl, START, lr=0.2, epochs=50).success
    assert descend(bowl, START, lr=0.2, clip=1.0, epochs=50).loss < 41


# -- batches ---------------------------------------------------------------------------------------

POINTS = line()


def squares(batch, a, b):
    x, y = batch
    return torch.mean((a * x / 100 + b - y / 100) ** 2)


def loader(seed=0, size=10, shuffle=True):
    generator = torch.Generator().manual_seed(seed) if seed is not None else None
    data = TensorDataset(POINTS.x, POINTS.y)
    return DataLoader(data, batch_size=size, shuffle=shuffle, generator=generator)


def test_batches_walk_as_a_loop_by_hand_does():
    a, b = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    way = []
    for _ in range(3):
        way.append((a.item(), b.item()))
        for batch in loader(shuffle=False):
            value = squares(batch, a, b)
            ga, gb = torch.autograd.grad(value, (a, b))
            with torch.no_grad():
                a -= 0.1 * ga
                b -= 0.1 * gb
    run = descend(squares, START, lr=0.1, epochs=2, data=loader(shuffle=False))
    np.testing.assert_allclose(walked(run), way, rtol=1e-12)


def test_the_loss_of_an_epoch_is_that_of_all_points_where_it_ends():
    run = descend(squares, START, lr=0.1, epochs=4, data=loader(size=32))
    for k in range(5):
        at = [torch.tensor(float(run.path[n][k]), dtype=torch.float64) for n in "ab"]
        whole = squares((POINTS.x, POINTS.y), *at)
        assert run.losses[k] == pytest.approx(whole.item(), rel=1e-12)
    assert run.loss == run.losses.min()


def test_noise_of_batches_is_named():
    run = descend(squares, {"a": 2.5, "b": 0.0}, lr=0.3, epochs=60, data=loader(size=2))
    assert run.verdict == "noisy"
    assert "pulls towards its own minimum" in run.diagnosis


def test_batches_may_be_a_list_of_dicts_or_tensors():
    whole = torch.arange(4.0, dtype=torch.float64)
    tensors = [whole[:3], whole[3:]]
    run = descend(
        lambda batch, m: ((batch - m) ** 2).mean(), {"m": 0.0}, lr=0.05, epochs=100, data=tensors
    )
    at = run.params["m"]
    assert run.loss == pytest.approx(((whole - at) ** 2).mean().item(), rel=1e-12)
    dicts = [{"x": t} for t in tensors]
    same = descend(
        lambda batch, m: ((batch["x"] - m) ** 2).mean(), {"m": 0.0}, lr=0.05, epochs=100, data=dicts
    )
    assert same.params == run.params


def test_batches_of_a_module_and_lbfgs():
    net = nn.Linear(1, 1).double()
    run = descend(
        lambda batch: ((net(batch[0][:, None] / 100)[:, 0] - batch[1] / 100) ** 2).mean(),
        net,
        optimizer="lbfgs",
        epochs=3,
        data=loader(size=50),
    )
    assert run.loss < 0.01
    assert run.n_steps == 3


def test_clipping_holds_for_every_batch():
    run = descend(squares, START, lr=0.1, clip=1e-3, epochs=1, data=loader(size=10))
    moved = math.hypot(run.path["a"][1], run.path["b"][1])
    assert moved <= 10 * 0.1 * 1e-3 * (1 + 1e-12)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ([], "`data` holds no batch"),
        (iter([torch.ones(1)]), "can be gone through again every epoch"),
    ],
)
def test_batches_that_cannot_be_used_are_refused(data, match):
    with pytest.raises(InputError, match=match):
        descend(lambda batch, a: a * batch.sum(), {"a": 1.0}, lr=0.1, data=data)


def test_automatic_steps_need_the_whole_loss():
    with pytest.raises(InputError, match="needs the whole loss at once"):
        descend(squares, START, data=loader())


# -- chance ----------------------------------------------------------------------------------------


def test_a_seed_makes_shuffled_batches_repeat_and_leaves_the_world_alone():
    before = torch.get_rng_state()
    runs = [
        descend(squares, START, lr=0.1, epochs=3, data=loader(seed=None), seed=seed)
        for seed in (5, 5, 6)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert runs[0].params == runs[1].params
    assert runs[0].params != runs[2].params


def test_a_random_loss_repeats_with_its_seed():
    def loss(a):
        return (a - 1) ** 2 * (1 + 0.1 * torch.rand((), dtype=torch.float64))

    runs = [descend(loss, {"a": 0.0}, lr=0.1, epochs=20, seed=1) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].losses, runs[1].losses)
