"""What torch says of a function, beside what the native kernel says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradfit._native.kernel import Kernel
from gradfit._native.program import Program, capture


@dataclass(frozen=True, eq=False)
class ModelKernel:
    """A model as kernels of its values, first and second derivatives."""

    program: Program

    def kernel(self, kind: str) -> Kernel:
        """Return the kernel of a kind: ``value``, ``first`` or ``second``."""
        p, m = self.program, len(self.program.x)
        by_x = [t for row in p.first for t in row[:m]]
        by_beta = [t for row in p.first for t in row[m:]]
        results = {
            "value": p.value,
            "first": (*p.value, *by_x, *by_beta),
            "second": p.second,
        }[kind]
        return Kernel(kind, (*p.x, *p.nu), p.beta, results)

    def text(self, kind: str) -> str:
        return self.kernel(kind).text

    def evaluate(self, kind: str, x: Any, beta: Any, nu: Any = None) -> Any:
        """Return the rows of a kind, (R, N), for x (m, N), beta (p,), nu (q, N)."""
        x = np.asarray(x, dtype=float)
        nu = np.zeros((len(self.program.nu), x.shape[1])) if nu is None else nu
        return self.kernel(kind).evaluate(np.concatenate([x, nu]), beta)


class Both(NamedTuple):
    """Values (q, N) and derivatives of two origins: by x and beta, and second ones (k, k, N)."""

    value: Any
    first: Any
    second: Any


def kernel_of(fn: Callable[..., Tensor], m: int, p: int) -> ModelKernel:
    """Capture a model ``fn(x, beta) -> (q, N)`` at two points of no meaning."""
    x = 0.31 + 0.13 * np.arange(2 * m).reshape(m, 2)
    beta = 0.4 + 0.17 * np.arange(2 * p).reshape(p, 2)
    return ModelKernel(capture(fn, x, beta))


def by_kernel(kernel: ModelKernel, x: Any, beta: Any, nu: Any) -> Both:
    """Ask the kernel; beta (p,)."""
    q, k = len(nu), len(x) + len(beta)
    rows = kernel.evaluate("first", x, beta)
    by_x = rows[q : q + q * len(x)].reshape(q, len(x), -1)
    by_beta = rows[q + q * len(x) :].reshape(q, len(beta), -1)
    upper = kernel.evaluate("second", x, beta, nu)
    second = np.zeros((k, k, upper.shape[1]))
    for row, (i, j) in zip(upper, zip(*np.triu_indices(k), strict=True), strict=True):
        second[i, j] = second[j, i] = row
    return Both(rows[:q], np.concatenate([by_x, by_beta], 1), second)


def by_torch(fn: Callable[..., Tensor], x: Any, beta: Any, nu: Any) -> Both:
    """Ask autograd."""
    n = np.shape(x)[1]
    rows = [torch.tensor(np.broadcast_to(v, n).copy(), requires_grad=True) for v in (*x, *beta)]
    value = fn(torch.stack(rows[: len(x)]), rows[len(x) :])
    first = torch.stack([_slopes(v.sum(), rows) for v in value])
    slopes = torch.autograd.grad(
        (value * torch.tensor(nu)).sum(), rows, create_graph=True, materialize_grads=True
    )
    second = torch.stack([_slopes(s.sum(), rows) for s in slopes])
    return Both(*(t.detach().numpy() for t in (value, first, second)))


def _slopes(total: Tensor, rows: list[Tensor]) -> Tensor:
    if not total.requires_grad:
        return torch.zeros(len(rows), len(rows[0]), dtype=torch.float64)
    found = torch.autograd.grad(total, rows, retain_graph=True, materialize_grads=True)
    return torch.stack([f.detach() for f in found])


def assert_close(found: Any, wanted: Any, rtol: float, scale: Any = 0.0) -> None:
    """Compare, NaN and inf in the same places; ``scale`` is the size whose rounding is forgiven."""
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
        gap = np.where(found == wanted, 0.0, np.abs(found - wanted))
        gap = np.where(np.isnan(wanted), 0.0, gap)
        bound = rtol * np.maximum(np.abs(np.nan_to_num(wanted)), scale)
    assert np.all(gap <= bound), (gap / bound).max()
