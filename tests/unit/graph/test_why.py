"""One line asks what is wrong with the gradients of anything, a training step too."""

import pytest
import torch

import gradfit as gf


def test_a_training_step_takes_place_and_all_is_well():
    torch.manual_seed(0)
    module = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    x, y = torch.randn(8, 2), torch.randn(8, 1)

    def step(x, y):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(module(x), y)
        loss.backward()
        optimizer.step()
        return loss

    before = module.weight.detach().clone()
    found = gf.why(step, x, y)
    assert not found
    assert str(found) == "no problems found"
    assert not torch.equal(module.weight, before)


def test_what_is_wrong_is_named_with_place_and_remedy():
    w = torch.tensor([0.0, 4.0], requires_grad=True)
    found = gf.why(lambda w, scale: (torch.sqrt(w) * scale).sum(), w, scale=2.0)
    assert found
    assert "`torch.sqrt(w)`" in str(found)
    assert found.graph["w"].grad is not None


def test_an_exception_passes_on_with_its_note():
    with pytest.raises(RuntimeError) as caught:
        gf.why(lambda w: w.detach().sum().backward(), torch.ones(2, requires_grad=True))
    assert "leave out detach()" in caught.value.__notes__[0].lower()
