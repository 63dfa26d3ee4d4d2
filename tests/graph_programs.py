"""Twenty functions that have fooled tracers, each with inputs to run it on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Program = tuple[Callable[..., Any], tuple[Tensor, ...]]


class Cube(torch.autograd.Function):
    """Old style: one method for forward and context."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * 3 * x**2


class ScaledSine(torch.autograd.Function):
    """New style: context set up apart."""

    @staticmethod
    def forward(x: Tensor, scale: Tensor) -> Tensor:
        return scale * torch.sin(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, scale = ctx.saved_tensors
        return grad * scale * torch.cos(x), (grad * torch.sin(x)).sum()


cube = Cube.apply


def odr_loss(a, b, x, y):
    return torch.mean((a * x - y + b) ** 2 / (a**2 + 1))


def shared(a, b):
    s = a * b
    return (s * s + a * s + torch.sin(s) * s).sum()


def in_place_and_views(x, w):
    h = x * w
    h.mul_(2)
    v = h.view(-1)
    v[0] = w.sum()
    row = h[1]
    row += w[1] * 3
    return (h * w).sum() + v.prod()


def loop_with_branch(x):
    total = x.sum()
    for i in range(4):
        total = total * 2 if total > 0 else total - i
        x = x - 0.1 * total
    return total + (x**2).sum()


def without_recording(x, w):
    h = x * w
    with torch.no_grad():
        scale = h.abs().max() + 1
    return (h / scale).sum()


def custom_functions(x, s):
    return (Cube.apply(x * 2) + ScaledSine.apply(x, s)).sum()


def alias_of_apply(x):
    return (cube(x) * x).mean()


def two_outputs(x, w):
    values, where = torch.max(x * w, 1)
    parts = torch.split(x + w, 1)
    return values.sum() + parts[0].prod() + where.sum(), parts[1] * 2


def choice(x):
    return torch.where(x > 0, x**2, torch.exp(x)).sum() + torch.clamp(x, -0.5, 0.5).sum()


def joined(x, y):
    return (torch.cat([x, y, x * y]) ** 2).sum()


def stacked(x, y):
    return torch.logsumexp(torch.stack([x, y, x - y]), 0).sum()


def products(x, y):
    return torch.tanh(torch.outer(x, y) @ y).sum()


def network(x, w, b):
    return functional.mse_loss(torch.sigmoid(functional.linear(x, w, b)), torch.zeros(2, 2))


def indexed(x):
    return x[1:].sum() * x[0] + x[torch.tensor([0, 0, 2])].prod() + x[x > 0].sum()


def factored(x):
    a = x @ x.T + 3 * torch.eye(x.shape[0])
    return torch.linalg.cholesky(a).diagonal().log().sum()


def norms(x, y):
    return torch.linalg.norm(x) + torch.hypot(x, y).sum() + x.norm(p=3) + torch.var(x)


def summed(a, b):
    return torch.einsum("ij,jk,i->k", a, b, a[:, 0]).sum()


def solved(a, b):
    return torch.linalg.solve(a @ a.T + torch.eye(2), b).square().sum()


def turned(x):
    return (x.T.reshape(-1)[None, :].expand(2, -1).permute(1, 0).contiguous() ** 3).mean()


def twice(x):
    y = (x**3).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    return (g**2).sum() + y


def _leaf(*shape: int, seed: int = 0, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(*shape, generator=generator, dtype=torch.float32) + shift
    return values.requires_grad_()


def _number(value: float) -> Tensor:
    return torch.tensor(value, requires_grad=True)


TWENTY: dict[str, Program] = {
    "odr_loss": (odr_loss, (_number(0.5), _number(0.0), torch.arange(8.0), torch.arange(8.0) * 2)),
    "shared": (shared, (_leaf(3), _leaf(3, seed=1))),
    "in_place_and_views": (in_place_and_views, (_leaf(2, 2), _leaf(2, 2, seed=1))),
    "loop_with_branch": (loop_with_branch, (_leaf(3),)),
    "without_recording": (without_recording, (_leaf(3), _leaf(3, seed=1))),
    "custom_functions": (custom_functions, (_leaf(3), _number(1.5))),
    "alias_of_apply": (alias_of_apply, (_leaf(3),)),
    "two_outputs": (two_outputs, (_leaf(2, 3), _leaf(2, 3, seed=1))),
    "choice": (choice, (_leaf(5),)),
    "joined": (joined, (_leaf(3), _leaf(3, seed=1))),
    "stacked": (stacked, (_leaf(3), _leaf(3, seed=1))),
    "products": (products, (_leaf(3), _leaf(3, seed=1))),
    "network": (network, (_leaf(2, 3), _leaf(2, 3, seed=1), _leaf(2, seed=2))),
    "indexed": (indexed, (_leaf(4, shift=0.5),)),
    "factored": (factored, (_leaf(3, 3),)),
    "norms": (norms, (_leaf(3), _leaf(3, seed=1))),
    "summed": (summed, (_leaf(2, 3), _leaf(3, 2, seed=1))),
    "solved": (solved, (_leaf(2, 2), _leaf(2, seed=1))),
    "turned": (turned, (_leaf(2, 3),)),
    "twice": (twice, (_leaf(3),)),
}
