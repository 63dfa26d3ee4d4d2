"""A function that raises keeps its own exception, with cause, place and remedy as its note."""

from pathlib import Path

import pytest
import torch

from gradfit.errors import TraceError
from gradfit.graph import trace

FROZEN = torch.nn.Linear(3, 2).requires_grad_(False)


def leaf(*shape):
    torch.manual_seed(0)
    return torch.randn(*shape, requires_grad=True)


def saved_and_overwritten(w):
    h = torch.sigmoid(w)
    h += 1
    h.sum().backward()


def detached(w):
    y = (w * 2).detach().sum()
    y.backward()


def number_read(w):
    loss = torch.tensor(w.sum().item() * 2)
    loss.backward()


def frozen(w):
    FROZEN(torch.ones(len(w))).sum().backward()


def leaf_in_place(w):
    w += 1
    return w.sum()


def view_of_leaf_in_place(w):
    w[0] = 1
    return w.sum()


def step_between_two_passes(w):
    v = w.detach().clone().requires_grad_()
    optimizer = torch.optim.SGD([v], lr=0.1)
    first, second = (v**2).sum(), (v**3).sum()
    first.backward(retain_graph=True)
    optimizer.step()
    second.backward()


def same_graph_twice(w):
    h = w.exp()
    (h * 2).sum().backward()
    (h * h).sum().backward()


def state_carried_over(w):
    h = torch.zeros(3)
    for _ in range(3):
        h = torch.tanh(w * h + 1)
        h.sum().backward()


def update_by_assignment(w):
    for _ in range(2):
        (w**2).sum().backward()
        w = w - 0.1 * w.grad


def many_numbers(w):
    (w * 2).backward()


def shapes(w):
    return w @ torch.ones(5, 6)


def types(w):
    return torch.ones(2, 3, dtype=torch.float64) @ w


def truth_of_many(w):
    return w if w > 0 else -w


def numpy_of_recorded(w):
    return (w * 2).numpy()


CASES = [
    (saved_and_overwritten, "overwrote it", "write to a copy", "h += 1"),
    (detached, "cut at `(w * 2).detach()`", "leave out detach()", "(w * 2).detach()"),
    (number_read, "cut at `w.sum().item()`", "stay with tensors", "w.sum().item()"),
    (frozen, "nothing that it is made of requires grad", "requires_grad_(True)", ".backward()"),
    (leaf_in_place, "writes in place to `w`, a leaf", "torch.no_grad()", "w += 1"),
    (view_of_leaf_in_place, "writes in place to `w`, a leaf", "torch.no_grad()", "w[0] = 1"),
    (step_between_two_passes, "overwrote it", "before the step that updates", "optimizer.step()"),
    (same_graph_twice, "`h` (line", "h = h.detach()", "(h * h)"),
    (state_carried_over, "an earlier backward() used up", "h = h.detach()", ".backward()"),
    (update_by_assignment, "`w` is no leaf but the result of", "with torch.no_grad()", "w = w -"),
    (many_numbers, "which has shape (3,)", ".sum().backward()", "(w * 2).backward()"),
    (shapes, "`w` float32 (3,)", "reshape", "w @ torch.ones"),
    (types, "float64 (2, 3)", "x.to(other.dtype)", "torch.ones(2, 3"),
    (truth_of_many, "asks for one truth value of many", "torch.where", "w if w > 0"),
    (numpy_of_recorded, "NumPy cannot record gradients", ".detach().numpy()", "(w * 2).numpy()"),
]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(("fn", "cause", "remedy", "line"), CASES)
def test_an_exception_carries_cause_place_and_remedy(fn, cause, remedy, line):
    with pytest.raises(Exception) as plain:  # noqa: PT011 - whatever torch raises
        fn(leaf(3))
    with pytest.raises(type(plain.value)) as traced:
        trace(fn, leaf(3))
    assert str(traced.value).split("[")[0] == str(plain.value).split("[")[0]
    (note,) = traced.value.__notes__
    assert cause in note
    assert remedy in note.replace("Leave", "leave").replace("Stay", "stay").replace(
        "Write", "write"
    )
    problem = next(p for p in traced.value.graph.problems() if str(p) in note)
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    assert line in source[problem.line - 1]


def test_an_exception_of_the_users_own_code_has_no_note():
    def fn(w):
        y = w * 2
        raise KeyError(float(y.detach().sum()))

    with pytest.raises(KeyError) as caught:
        trace(fn, leaf(3))
    assert not getattr(caught.value, "__notes__", [])
    assert "w * 2" in repr(caught.value.graph)


def test_a_graph_too_big_is_still_an_error_of_the_trace():
    with pytest.raises(TraceError, match="max_nodes"):
        trace(lambda w: sum(w * k for k in range(50)), leaf(3), max_nodes=20)


def test_keyword_arguments_reach_the_function():
    def fn(w, *, scale, shift=1.0):
        return (w * scale + shift).sum()

    w, scale = leaf(3), torch.tensor(2.0, requires_grad=True)
    graph = trace(fn, w, scale=scale, shift=3.0)
    assert graph["scale"].requires_grad
    assert graph.check()
    assert float(graph["scale"].grad) == pytest.approx(float(w.detach().sum()), rel=1e-6)
    assert graph.compare("export")
