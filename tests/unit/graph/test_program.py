"""A graph is written as a straight NumPy program that gives the same numbers."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from gradfit.errors import TraceError
from gradfit.graph import trace


def leaf(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def test_program_reads_like_the_slide(rng):
    x, y, z = (torch.tensor(rng.normal(size=(3, 4)), requires_grad=True) for _ in range(3))

    def forward(x, y, z):
        a = x * y
        b = a + z
        c = torch.sum(b)
        return c

    program = trace(forward, x, y, z).to_numpy()
    code = [line.split("  #")[0].strip() for line in str(program).splitlines()]
    wanted = ["a = x * y", "b = a + z", "c = np.sum(b)", "grad_c = np.ones(())"]
    wanted += ["grad_a = grad_b", "grad_z = grad_b", "grad_x = grad_a * y", "grad_y = grad_a * x"]
    assert all(line in code for line in wanted)
    assert "# x * y" in str(program)
    (result,), gradients = program.run()
    assert result == float(torch.sum(x * y + z).detach())
    np.testing.assert_array_equal(gradients["x"], y.detach())


def test_program_runs_on_other_numbers():
    program = trace(lambda a, x: ((a * x) ** 2).sum(), leaf(2.0), torch.arange(3.0)).to_numpy()
    (result,), gradients = program.run(a=3.0)
    assert (result, gradients["a"]) == (45, 30)
    with pytest.raises(TraceError, match="no input is called 'q'"):
        program.run(q=1)


M = [[2.0, 0.3, 0.1], [0.2, 1.5, 0.4], [0.6, 0.1, 1.2]]
RULES = {
    "powers": lambda x, y: (x**3 + 2.0**x + x**y + x**0.5 + x**0).sum(),
    "quotients": lambda x, y: (x / y + 2 / x + x / 3 - torch.div(y, x)).sum(),
    "alpha": lambda x, y: torch.add(x, y, alpha=3).sub(x, alpha=0.5).mul(2).sum(),
    "logs": lambda x, y: (x.log() + x.log1p() + torch.log2(y) + y.log10() + x.expm1()).sum(),
    "angles": lambda x, y: (
        x.sin() + x.cos() + (x / 9).tan() + (x / 9).asin() + (y / 9).acos() + x.atan()
    ).sum(),
    "hyperbolic": lambda x, y: (x.sinh() + y.cosh() + x.asinh() + (y + 2).acosh()).sum(),
    "roots": lambda x, y: (x.sqrt() + y.rsqrt() + x.square() + y.reciprocal()).sum(),
    "units": lambda x, y: (
        functional.softplus(x)
        + functional.logsigmoid(y)
        + functional.silu(x)
        + functional.leaky_relu(-y)
    ).sum(),
    "extrema": lambda x, y: (
        torch.maximum(x, y) + torch.minimum(x, y) + torch.max(x, y) + x.amin(0) + y.min()
    ).sum(),
    "atan2": lambda x, y: (torch.atan2(x, y) + torch.hypot(x, y) + torch.lerp(x, y, 0.3)).sum(),
    "softmax": lambda x, y: (x.softmax(0) * y.log_softmax(-1) + x.logsumexp(1, True)).sum(),
    "spread": lambda x, y: x.var() + y.std(0).sum() + x.var(1, unbiased=False).sum(),
    "norms": lambda x, y: (
        x.norm() + y.norm(p=3) + torch.linalg.norm(x, dim=1).sum() + x.norm(1, dim=0).sum()
    ),
    "joins": lambda x, y: (
        torch.cat([x, y, x], 1).prod(1) + torch.stack([x, y], 1).sum((1, 2))
    ).sum(),
    "pieces": lambda x, y: (
        x[1].sum() * x[0, 2] + x[:, 1:].prod() + y[[0, 0, 2]].sum() * y[x > 1].sum()
    ),
    "splits": lambda x, y: (
        sum(a.prod() for a in x.split(2)) + sum(b.sum() ** 2 for b in y.unbind(1))
    ),
    "selects": lambda x, y: (
        x.select(1, 0).prod() * y.narrow(0, 1, 2).sum()
        + x.index_select(0, torch.tensor([1, 1])).prod()
    ),
    "shapes": lambda x, y: (
        x.flatten().roll(1).flip(0).reshape(3, 3)
        @ y.movedim(0, 1).swapaxes(0, 1).unsqueeze(0).squeeze(0)
    ).sum(),
    "triangles": lambda x, y: (
        torch.tril(x).sum() * torch.triu(y, 1).sum() + torch.trace(x) + torch.diag(y).prod()
    ),
    "diagonals": lambda x, y: (torch.diag(x[0]) @ y).diagonal(1).prod(),
    "products": lambda x, y: (x @ y @ x[0] + y[1] @ x).sum() * (x[0] @ y[0]),
    "batches": lambda x, y: (torch.stack([x, y]) @ y[:, :2] @ torch.ones(2, 2, 1)).sum(),
    "addmm": lambda x, y: torch.addmm(x[0], x, y, beta=0.5, alpha=2).prod(0).sum(),
    "algebra": lambda x, y: (
        torch.linalg.inv(x).sum() + torch.linalg.det(y) + torch.linalg.solve(x, y).sum()
    ),
    "losses": lambda x, y: (
        functional.mse_loss(x, y) + functional.mse_loss(y, x * 2, reduction="sum")
    ),
    "absolute losses": lambda x, y: (
        functional.l1_loss(x, y) + functional.l1_loss(y, x * 3, reduction="sum")
    ),
    "robust losses": lambda x, y: (
        functional.huber_loss(x, y, delta=0.3)
        + functional.huber_loss(x, 2 * y, reduction="sum")
        + functional.smooth_l1_loss(y, 3 * x, beta=0.5)
    ),
    "classes": lambda x, y: (
        functional.cross_entropy(x * y, torch.tensor([2, 0, 1]))
        + functional.cross_entropy(y, torch.tensor([0, 0, 2]), reduction="sum")
    ),
    "gathers": lambda x, y: (
        x.gather(1, torch.tensor([[0, 0], [2, 1], [1, 1]])).prod()
        + y.gather(0, torch.tensor([[0, 2, 2]])).sum() ** 2
        + torch.take_along_dim(y, torch.tensor([[0], [1], [1]]), 1).prod()
    ),
    "masks": lambda x, y: (
        x.masked_fill(y > 0.4, 2.0).prod() + y.masked_fill(x > 1, x.sum()).square().sum()
    ),
    "repeats": lambda x, y: (x.repeat(2, 1, 2) * y.repeat(2, 3, 2)[:, :3]).sum(),
    "traces": lambda x, y: torch.einsum("ij,jk->", x, y) + torch.einsum("ij,ij->i", x, y).prod(),
    "cumsum": lambda x, y: (x.cumsum(1) * y.cumsum(0)).sum(),
    "conversions": lambda x, y: (x.clone().to(torch.float64) * y.contiguous()).double().sum(),
}


@pytest.mark.parametrize("name", RULES)
def test_rule_agrees_with_autograd(name):
    x, y = leaf(M), leaf(np.transpose(M) + 0.1)
    with torch.no_grad():
        torch.set_default_dtype(torch.float64)
    try:
        graph = trace(RULES[name], x, y)
    finally:
        torch.set_default_dtype(torch.float32)
    report = graph.check("numpy")
    assert all(verdict.worst < 1e-12 for verdict in report.leaves), str(report)
    assert len(report.leaves) == 3


def write_everywhere(x, y):
    h = x * 2
    h[0] = y[0]
    h[1:, 0].add_(y[1:, 1])
    h.T[2].mul_(0.5)
    part = h.view(-1)[2:5]
    part.copy_(y[:, 2])
    z = torch.zeros(3, dtype=x.dtype)
    z.fill_(1.0).add_(x[1])
    z[torch.tensor([0, 2])] = y[0, :2]
    return (h * x).sum() + part.prod() + (z * z).sum()


def test_writes_through_views_of_views_agree_with_autograd():
    report = trace(write_everywhere, leaf(M), leaf(np.transpose(M))).check("numpy")
    assert all(verdict.worst < 1e-13 for verdict in report.leaves), str(report)


def test_a_descent_written_out_agrees_step_by_step():
    def steps(p, x):
        for _ in range(3):
            loss = ((p * x - 1) ** 2).sum()
            loss.backward()
            with torch.no_grad():
                p -= 0.1 * p.grad
            p.grad = None
        return p * 1

    graph = trace(steps, leaf(0.2), torch.tensor([0.5, 1.0], dtype=torch.float64))
    program = graph.to_numpy()
    (result,), gradients = program.run()
    assert result == pytest.approx(float(graph.result), rel=1e-14)
    assert gradients["p"] == pytest.approx(float(graph["p"].grad), rel=1e-14)
    assert "p_2 = p_1 - " in str(program)


def test_what_has_no_rule_is_named_with_its_line():
    with pytest.raises(TraceError, match=r"no NumPy rule for `erf` \(line \d+\)"):
        trace(lambda x: torch.erf(x).sum(), leaf([1.0])).to_numpy()


def test_what_needs_no_gradient_is_taken_as_it_was():
    graph = trace(lambda x: (x * torch.erf(torch.ones(2))).sum(), leaf([1.0, 2.0]))
    (result,), gradients = graph.to_numpy().run()
    np.testing.assert_allclose(gradients["x"], torch.erf(torch.ones(2)), rtol=1e-7)
    assert result == pytest.approx(float(graph.result), rel=1e-7)


def test_values_too_big_to_keep_are_said_to_be_missing():
    with pytest.raises(TraceError, match="too big to keep"):
        trace(lambda x: (x**2).sum(), leaf([1.0, 2.0]), keep=1).to_numpy()
