"""What a descent moves, whatever kind it is of, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from descents import START, bowl
from torch import nn

from gradfit import descend
from gradfit.errors import InputError, ModelError

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
        (lambda a, b: a * np.ones(3) + b, "Make tensors of the data with torch.as_tensor"),
        (lambda a, b: np.sin(a) + b, "`loss` hands tensors to NumPy, which cannot follow"),
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
