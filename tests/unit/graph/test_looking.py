"""Looking changes nothing: no failure of the trace reaches the function, nothing is lent."""

import numpy as np
import pytest
import torch

from gradfit.graph import ledger, trace


def leaf(*shape):
    torch.manual_seed(0)
    return torch.randn(*shape, requires_grad=True)


VIEWS = [
    lambda w: w[0, 0].item(),
    lambda w: w.T,
    lambda w: w.view(-1)[:2],
    lambda w: w.reshape(-1),
    lambda w: w[0].clamp_(0, 1),
    lambda w: w[:, :2].argmax(),
    lambda w: w.diagonal().sum(),
]


@pytest.mark.parametrize("peek", VIEWS)
def test_a_view_made_without_recording_is_a_value_without_gradient(peek):
    def fn(w):
        with torch.no_grad():
            peek(w)
        return (w * 2).sum()

    graph = trace(fn, leaf(3, 3))
    (grad,) = [node.grad for node in graph.find("w") if node.grad is not None]
    np.testing.assert_array_equal(grad, np.full((3, 3), 2))


def test_such_a_view_given_as_an_argument_has_no_gradient():
    w = leaf(3)
    with torch.no_grad():
        view = w[:2]
    node = trace(lambda v, a: (v * a).sum(), view, leaf(2))["v"]
    assert node.grad is None
    assert "no gradient reaches it" in node.reason


def test_spectral_norm_is_traced():
    module = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(3, 4))
    graph = trace(module, torch.randn(5, 3))
    assert all(leaf.grad is not None for leaf in graph.leaves)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_run_as_they_are():
    parts = [torch.ones(2), torch.ones(3)]

    def fn(t):
        return torch.nested.to_padded_tensor(t * 2, 0.0).sum()

    t = torch.nested.nested_tensor(parts, requires_grad=True)
    assert trace(fn, t).result == fn(t)


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_memory_can_be_resized_afterwards_and_inside():
    x = torch.ones(4)
    trace(lambda x: x * 2, x)
    x.resize_(2)

    def fn(a):
        buffer = torch.empty(1)
        with torch.no_grad():
            torch.mul(a, 2, out=buffer)
        return buffer.resize_(2) * 1

    assert trace(fn, torch.ones(3)).result.tolist() == [2, 2]


@pytest.mark.parametrize("error", [RuntimeError("boom"), AssertionError("boom"), TypeError("boom")])
def test_a_failure_of_the_bookkeeping_is_noted_and_stops_nothing(monkeypatch, error):
    take = ledger.take

    def broken(tensor, keep):
        if tensor.shape == (7,):
            raise error
        return take(tensor, keep)

    monkeypatch.setattr(ledger, "take", broken)
    a = leaf(3)
    graph = trace(lambda a: (torch.cat([a, a, a[:1]]) * 2).sum(), a)
    assert graph.result == (torch.cat([a, a, a[:1]]) * 2).sum()
    assert any(missed.startswith("cat: ") for missed in graph.missed)
    assert "not written down: cat" in repr(graph)
    np.testing.assert_allclose(graph["a"].grad, [6, 4, 4])


def test_a_failure_while_listening_does_not_stop_the_users_backward(monkeypatch):
    from gradfit.graph import gradients

    def broken(tensor, keep):
        raise RuntimeError("boom")

    def step(w):
        (w**2).sum().backward()

    w = leaf(3)
    monkeypatch.setattr(gradients, "take", broken)
    graph = trace(step, w)
    assert torch.equal(w.grad, 2 * w.detach())
    assert graph.missed


def test_a_snapshot_is_an_array():
    graph = trace(lambda a: a**2 * 3, torch.tensor(3.0, requires_grad=True))
    grad = graph["a"].grad
    assert grad == 18
    assert grad > 5
    assert grad + 1 == 19
    assert 2 * grad == 36
    assert -grad == -18
    assert abs(grad) == round(grad) == int(grad) == grad.tolist() == 18
    assert f"{grad:.3f}" == "18.000"
    assert torch.as_tensor(grad) == 18
    assert grad.tensor().dtype == torch.float32
    with pytest.raises(TypeError):
        len(grad)


def test_a_snapshot_of_many_is_an_array():
    graph = trace(lambda a: (a**2).sum(), torch.tensor([1.0, 2.0, 3.0], requires_grad=True))
    grad = graph["a"].grad
    assert (grad == np.array([2, 4, 6])).all()
    assert (grad != 4).tolist() == [True, False, True]
    assert grad[1] == 4
    assert grad[1:].tolist() == [4, 6]
    assert list(grad) == [2, 4, 6]
    assert len(grad) == 3
    assert np.sqrt(grad**2).tolist() == [2, 4, 6]
    assert torch.allclose(torch.as_tensor(grad), torch.tensor([2.0, 4.0, 6.0]))
    assert f"{grad:.1f}" == "[2.0 4.0 6.0]"
    assert grad == grad
    with pytest.raises(ValueError, match="ambiguous"):
        bool(grad)


def test_a_mapping_of_its_own_type_stays_one():
    class Output(dict):
        @property
        def loss(self):
            return self["loss"]

    graph = trace(lambda a: Output(loss=a.sum(), rest=a), leaf(3))
    assert isinstance(graph.result, Output)
    assert not graph.result.loss.requires_grad
