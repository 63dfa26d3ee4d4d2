"""Functions that tracers trip over: every one is traced, checked, written out and drawn."""

import functools
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from gradfit.errors import TraceError
from gradfit.graph import Graph, trace
from gradfit.graph.operations import outputs

ODD: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
LINEAR = torch.nn.Linear(3, 2).double()
OUTSIDE = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
WITHOUT_SOURCE: dict[str, Any] = {"torch": torch}
exec("def typed(x):\n    h = x * 2\n    return (h**2).sum()\n", WITHOUT_SOURCE)


def leaf(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(ODD))
    return torch.randn(*shape, generator=generator).to(dtype).requires_grad_()


def odd(*inputs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(fn: Callable[..., Any]) -> Callable[..., Any]:
        ODD[fn.__name__] = fn, inputs
        return fn

    return register


@odd(leaf(3))
def complex_numbers_inside(x):
    z = torch.complex(x, x**2)
    return (z * z.conj()).real.sum() + torch.fft.fft(z).abs().sum()


@odd(leaf(3))
def complex_result(x):
    return torch.view_as_complex(torch.stack([x, 2 * x], -1))


@odd(leaf(4))
def masks_and_integers(x):
    mask, i = x > 0, torch.arange(4)
    return x[mask].sum() + (x * mask).sum() + x.masked_fill(~mask, 0.0).sum() + (x[i % 2] * i).sum()


@odd([leaf(3), leaf(3)], {"k": (leaf(2),)})
def lists_and_dicts_both_ways(xs, d):
    return {"doubled": [x * 2 for x in xs], "rest": (d["k"][0].sum(), 3, "text", None)}


@odd(leaf(3))
def generator_inside(x):
    def squares():
        for i in range(3):
            yield x[i] ** 2

    return sum(squares())


@odd(leaf(2))
def recursion(x):
    def down(n, v):
        return v if n == 0 else down(n - 1, torch.sin(v) * x)

    return down(4, x).sum()


@odd(leaf(3))
def lambdas_on_one_line(x):
    return (lambda y: y * 2)(x).sum() + (lambda y: y * 3)(x).sum()


def doubled(fn):
    @functools.wraps(fn)
    def wrapper(*args):
        return fn(*args) * 2

    return wrapper


@odd(leaf(3))
@doubled
def decorated_with_a_global(x):
    return (x * OUTSIDE.detach()).sum()


@odd(leaf(3, dtype=torch.float16))
def half_precision(x):
    return (x * 2).sum()


@odd(leaf(3, dtype=torch.bfloat16))
def brain_floats(x):
    return x.exp().mean()


@odd(leaf(3))
def mixed_precision(x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return (x.float() @ x.float()).sum()


@odd(leaf(0, 3))
def no_entries(x):
    return (x @ x.T).sum() + x.mean(0).sum()


@odd(leaf(200_000, dtype=torch.float32))
def a_big_tensor(x):
    return (x * 2 + 1).sin().mean()


@odd(leaf(3, 3))
def sparse_matrices(x):
    return torch.sparse.mm(x.to_sparse(), x).sum() + (x.to_sparse() * 2).to_dense().sum()


@odd(leaf(3))
def a_descent_of_its_own(x):
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    ((w - x.detach()) ** 2).sum().backward()
    return w.grad.sum()


@odd(leaf(3))
def functional_gradient(x):
    return torch.func.grad(lambda v: (v**3).sum())(x).sum()


@odd(leaf(3))
def functional_jacobian(x):
    return torch.func.jacrev(lambda v: v**3)(x).sum()


@odd(leaf(3))
def recomputed(x):
    return checkpoint(lambda v: v.sin() * v, x, use_reentrant=False).sum()


@odd(leaf(3))
def in_threads(x):
    found = {}

    def work(i):
        found[i] = x[i] ** 2

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(found[i] for i in range(3))


@odd(leaf(3))
def what_came_in(x):
    return x


@odd(leaf(3))
def the_same_twice(x):
    y = x * 2
    return y, y


@odd(3, 2.0, leaf(2), None, "text")
def arguments_of_every_kind(n, factor, x, nothing, text):
    return (x * n * factor).sum()


@odd(leaf(4))
def out_without_recording(x):
    scale = torch.empty(4, dtype=torch.float64)
    with torch.no_grad():
        torch.mul(x, 2, out=scale)
    return (x * scale).sum()


@odd(leaf(4))
def written_by_a_mask(x):
    y = x.clone()
    y[y > 0] = 0
    return y.sum()


@odd(leaf(4))
def taken_apart(x):
    a, b, c, d = x
    return a * b + c * d


@odd(leaf(3))
def an_error_that_was_caught(x):
    try:
        x.reshape(7)
    except RuntimeError:
        return x.sum()


@odd(leaf(3))
def random_numbers(x):
    noise = torch.randn(3, dtype=torch.float64)
    return torch.nn.functional.dropout(x, 0.5).sum() + noise @ x


@odd(torch.linspace(0, 1, 12, dtype=torch.float64).reshape(2, 2, 3))
def a_module_in_reach(x):
    return LINEAR(x).pow(2).mean()


@odd(leaf(3))
def grad_mode_switched_by_hand(x):
    torch.set_grad_enabled(False)
    y = x * 2
    torch.set_grad_enabled(True)
    return (x * y).sum()


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


@dataclass(frozen=True)
class Answer:
    total: torch.Tensor
    name: str = "sum"


@odd(Pair(leaf(3), leaf(3)))
def named_tuples_and_dataclasses(pair):
    return Answer((pair.left * pair.right).sum())


@odd(leaf(2), leaf(3))
def any_number_of_arguments(*xs):
    return sum(x.square().sum() for x in xs)


@torch.library.custom_op("gradfit_tests::doubled", mutates_args=())
def doubled_elsewhere(x: torch.Tensor) -> torch.Tensor:
    return x * 2


doubled_elsewhere.register_autograd(lambda ctx, grad: grad * 2)


@odd(leaf(3))
def registered_operation(x):
    return doubled_elsewhere(x).sum()


ODD["typed"] = WITHOUT_SOURCE["typed"], (leaf(3),)
ODD["partial"] = functools.partial(torch.pow, exponent=2), (leaf(3),)
ODD["builtin"] = torch.sin, (leaf(3),)


WITHOUT_NUMPY = {
    *("complex_numbers_inside", "complex_result", "a_big_tensor"),
    *("sparse_matrices", "functional_gradient", "functional_jacobian", "in_threads"),
    *("random_numbers", "registered_operation"),
}


def run(fn, inputs):
    torch.manual_seed(5)
    return [tensor for _, tensor in outputs(fn(*inputs))]


def dense(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().resolve_conj().cdouble() + 0.0


@pytest.fixture(scope="module")
def traced() -> Callable[[str], Graph]:
    @functools.cache
    def of(name: str) -> Graph:
        fn, inputs = ODD[name]
        torch.manual_seed(5)
        return trace(fn, *inputs)

    return of


@pytest.mark.parametrize("name", ODD)
def test_results_and_gradients_are_those_of_the_plain_call(name, traced):
    graph = traced(name)
    fn, inputs = ODD[name]
    plain = run(fn, inputs)
    found = [tensor for _, tensor in outputs(graph.result)]
    for one, two in zip(plain, found, strict=True):
        torch.testing.assert_close(one.detach(), two, rtol=0, atol=0, equal_nan=True)
    leaves = [t for _, t in outputs(list(inputs)) if t.requires_grad]
    roots = [t for t in plain if t.requires_grad]
    assert all(t.grad is None for t in leaves)
    if name == "a_descent_of_its_own":  # there, gradients are those of its own pass
        return
    starts = [torch.ones_like(t) for t in roots]
    wanted = torch.autograd.grad(roots, leaves, starts, allow_unused=True) if leaves else ()
    for node, gradient in zip(graph.leaves, wanted, strict=False):
        if gradient.numel() <= 100_000:
            np.testing.assert_array_equal(np.asarray(node.grad), dense(gradient).numpy())
    assert all(node.adds_up for node in graph)


WITH_A_CUT = {"out_without_recording", "grad_mode_switched_by_hand"}
"""What is computed without recording goes on into the result."""


@pytest.mark.parametrize("name", ODD)
def test_checks_accuse_nobody(name, traced):
    graph = traced(name)
    report = graph.check()
    cut = {v.outcome for v in report.wrong} == {"cut"}
    assert cut if name in WITH_A_CUT else report, str(report)
    if name in WITHOUT_NUMPY:
        with pytest.raises(TraceError, match="no NumPy rule|too big to keep"):
            graph.check("numpy")
    else:
        assert graph.check("numpy"), str(graph.check("numpy"))


@pytest.mark.parametrize("name", ODD)
def test_every_way_to_look_at_it_works(name, traced):
    graph = traced(name)
    ET.fromstring(graph.to_svg())
    for told in (graph.to_html(), graph.to_dot(), graph.to_mermaid(), graph.to_json()):
        assert len(told) > 20
    assert len(graph.table()) == len(graph)
    assert all(graph.explain(node.id) for node in graph)
    assert len(graph.with_kernels()) == len(graph)


def test_tensors_without_data_are_shown_by_their_shape():
    graph = trace(lambda x: (x * 2).sum(), torch.ones(3, device="meta", requires_grad=True))
    assert graph["x"].value.brief == "no data"
    assert graph["x * 2"].value.shape == (3,)
    assert not graph.problems()
    assert all(v.outcome == "skipped" for v in graph.check().operations)
    with pytest.raises(ValueError, match="no values to read"):
        graph["x"].value.item()


def test_a_step_of_a_transform_is_part_of_its_one_card():
    graph = trace(lambda x: torch.func.jacrev(lambda v: v**2)(x).sum(), OUTSIDE)
    kinds = [(node.kind, node.label) for node in graph]
    assert kinds[1] == ("hidden", "torch.func.jacrev(lambda v: v**2)(x)")
    assert len(kinds) == 3


def test_a_version_that_nothing_used_says_who_overwrote_it():
    def moved(x):
        with torch.no_grad():
            x += 1.0
        return (x**2).sum()

    graph = trace(moved, leaf(3))
    assert "`x` (line " in graph.explain(0)
    assert "overwrote it" in graph.explain(0)


def test_a_reentrant_checkpoint_is_told_what_to_do():
    graph = trace(lambda x: checkpoint(torch.sin, x, use_reentrant=True).sum(), OUTSIDE)
    assert "use_reentrant=False" in str(graph.problems())


def test_parts_of_named_tuples_dataclasses_and_star_arguments_are_named():
    assert trace(*flat("named_tuples_and_dataclasses")).names[:2] == ("pair.left", "pair.right")
    assert trace(*flat("any_number_of_arguments")).names[:2] == ("xs[0]", "xs[1]")


@pytest.mark.slow
def test_what_came_in_a_named_tuple_is_compared_in_one():
    def product(pair):
        return (pair.left * pair.right).sum()

    assert trace(product, Pair(leaf(3), leaf(3))).compare("export")


def test_an_operation_registered_elsewhere_is_one_card_by_its_name():
    graph = trace(*flat("registered_operation"))
    assert [node.op for node in graph] == ["", "doubled", "sum"]


def flat(name: str) -> tuple[Any, ...]:
    fn, inputs = ODD[name]
    return fn, *inputs
