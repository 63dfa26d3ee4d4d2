"""One call opens a function up, and leaves everything as it was."""

import gc
import threading
import weakref
from statistics import median
from time import thread_time

import numpy as np
import pytest
import torch
from torch import nn

from gradfit.errors import TraceError
from gradfit.graph import Graph, trace


def leaf(value, dtype=torch.float64):
    return torch.tensor(value, dtype=dtype, requires_grad=True)


# -- the tutorial ---------------------------------------------------------------------------------


def test_gradients_of_a_sum_of_products_equal_those_written_by_hand(rng):
    x, y, z = rng.normal(size=(3, 3, 4))

    def total(x, y, z):
        return torch.sum(x * y + z)

    graph = trace(total, *(torch.tensor(v, requires_grad=True) for v in (x, y, z)))
    assert float(graph["torch.sum(x*y + z)"].value) == pytest.approx((x * y + z).sum(), rel=1e-15)
    np.testing.assert_array_equal(graph["x"].grad, y)
    np.testing.assert_array_equal(graph["y"].grad, x)
    np.testing.assert_array_equal(graph["z"].grad, np.ones_like(z))
    np.testing.assert_array_equal(graph["x * y"].grad, np.ones_like(z))


def test_reason_says_why_a_sum_requires_grad_and_why_not():
    def add(x, y):
        z = x + y
        return z

    without = trace(add, torch.ones(2), torch.ones(2))["z"]
    assert not without.requires_grad
    assert without.reason == "no input requires grad"
    one = trace(add, torch.ones(2), leaf([1.0, 2.0]))["z"]
    assert one.requires_grad
    assert one.reason == "requires grad because `y` does"
    both = trace(add, leaf([1.0]), leaf([2.0]))["z"]
    assert both.reason == "requires grad because `x` and `y` do"


def test_gradient_of_the_slope_is_the_sum_of_its_two_parts():
    a, b, x, y = 0.5, 0.1, np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.2, 1.9, 4.1, 6.2])

    def loss(a, b, x, y):
        return torch.mean((a * x - y + b) ** 2 / (a**2 + 1))

    graph = trace(loss, leaf(a), leaf(b), torch.tensor(x), torch.tensor(y))
    r = a * x - y + b
    through_x = np.mean(2 * r * x / (a**2 + 1))
    through_square = -np.mean(r**2) * 2 * a / (a**2 + 1) ** 2
    node = graph["a"]
    assert {text: float(part) for text, part in node.parts.items()} == pytest.approx(
        {"a * x": through_x, "a**2": through_square}, rel=1e-14
    )
    assert float(node.grad) == pytest.approx(through_x + through_square, rel=1e-14)


def test_update_without_recording_makes_a_new_version_of_the_leaf():
    def step(p):
        loss = (p - 3) ** 2
        loss.backward()
        with torch.no_grad():
            p -= 0.1 * p.grad
        p.grad = None

    p = leaf(1.0)
    graph = trace(step, p)
    first, second = graph.find("p")
    assert first.kind == "leaf"
    assert float(first.grad) == pytest.approx(2 * (1 - 3))
    assert second.writes == first.id
    assert second.in_no_grad
    assert "not recorded" in second.reason
    assert float(second.value) == pytest.approx(1 + 0.1 * 4)
    assert float(p.detach()) == pytest.approx(1.4)


# -- nothing is changed ----------------------------------------------------------------------------


def test_result_is_detached_and_equal_to_the_plain_call():
    x = leaf([1.0, 2.0])

    def several(x):
        return {"sum": x.sum(), "parts": (x * 2, [x**2, "text", 3])}

    graph = trace(several, x)
    assert torch.equal(graph.result["parts"][0], (x * 2).detach())
    assert graph.result["parts"][1][1:] == ["text", 3]
    assert not graph.result["sum"].requires_grad
    assert len(graph.results) == 3
    np.testing.assert_array_equal(graph["x"].grad, 1 + 2 + 2 * x.detach().numpy())


def test_no_grad_attribute_is_touched_and_the_graph_can_still_be_used():
    x = leaf([1.0, 2.0])
    kept = []

    def loss(x):
        kept.append((x**2).sum())
        return kept[0]

    trace(loss, x)
    assert x.grad is None
    assert kept[0].grad_fn is not None
    kept[0].backward()
    np.testing.assert_array_equal(x.grad, 2 * x.detach())


def test_an_exception_comes_through_and_nothing_stays_patched():
    before = torch.autograd.Function.__dict__["apply"]

    def broken(x):
        y = x * 2
        raise ValueError(f"shape {tuple(y.shape)}")

    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        trace(broken, leaf([1.0, 2.0]))
    assert torch.autograd.Function.__dict__["apply"] is before
    assert len(trace(lambda x: x * 2, leaf([1.0]))) == 2


def test_an_error_of_an_operator_is_the_error_of_the_plain_call():
    with pytest.raises(TypeError, match="unsupported operand"):
        trace(lambda x: x + "a", leaf(1.0))


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TraceError, match="`fn` must be a function of tensors .* got 'a"):
        trace("a*x", torch.ones(2))  # pyright: ignore[reportArgumentType]


def test_a_trace_inside_a_trace_is_refused():
    def outer(x):
        return trace(lambda x: x * 2, x).result

    with pytest.raises(TraceError, match="a trace runs already in this thread"):
        trace(outer, leaf(1.0))
    assert len(trace(lambda x: x * 2, leaf(1.0))) == 2


def test_two_threads_trace_at_the_same_time():
    graphs: dict[int, Graph] = {}
    gate = threading.Barrier(2)

    def one(number: int) -> None:
        def fn(x):
            gate.wait(timeout=10)
            y = x * number
            gate.wait(timeout=10)
            return y.sin()

        graphs[number] = trace(fn, leaf(0.5))

    threads = [threading.Thread(target=one, args=(n,)) for n in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in (2, 3):
        assert len(graphs[number]) == 3
        assert float(graphs[number]["x"].grad) == pytest.approx(number * np.cos(0.5 * number))


def test_random_numbers_are_those_of_the_plain_call():
    def noisy(x):
        return (nn.functional.dropout(x, 0.5) + torch.randn(x.shape)).sum()

    x = torch.ones(50, requires_grad=True)
    torch.manual_seed(3)
    plain, after = noisy(x), torch.rand(())
    torch.manual_seed(3)
    graph = trace(noisy, x)
    assert torch.equal(graph.result, plain.detach())
    assert torch.equal(torch.rand(()), after)


def test_everything_the_function_made_is_freed_at_once():
    made = []

    def fn(x):
        y = torch.sin(x * 2)
        made.append(weakref.ref(y))
        return y.sum()

    gc.disable()  # nothing may wait for the collector: big tensors are held
    try:
        trace(fn, leaf([1.0, 2.0]))
        assert made[0]() is None
    finally:
        gc.enable()


# -- what it takes --------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        self.scale = nn.Parameter(torch.ones(()))
        self.spare = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return (self.body(x) * self.scale).mean()


def test_parameters_of_a_module_are_named_by_their_path():
    net = Net()
    x = torch.linspace(-1, 1, 8).reshape(4, 2)
    graph = trace(net, x)
    names = {node.name for node in graph.leaves}
    assert names == {name for name, _ in net.named_parameters()}
    net(x).backward()
    for name, parameter in net.named_parameters():
        if name != "spare":
            np.testing.assert_array_equal(graph[name].grad, parameter.grad)
    assert graph["spare"].grad is None
    assert [node.module for node in graph if node.op == "linear"] == ["body.0", "body.2"]
    assert graph.title == "Net"


def test_modules_in_closures_and_arguments_are_found_too():
    net = nn.Linear(2, 1)
    inside = trace(lambda x: net(x).sum(), torch.ones(1, 2))
    assert {"net.weight", "net.bias"} <= set(inside.names)
    given = trace(lambda model, x: model(x).sum(), net, torch.ones(1, 2))
    assert {"model.weight", "model.bias"} <= set(given.names)


def test_inputs_inside_containers_are_named_by_their_path():
    def loss(params, x):
        return params["a"] * x[0] + params["b"][1] * x[1]

    params = {"a": leaf(2.0), "b": [leaf(0.0), leaf(3.0)]}
    graph = trace(loss, params, (torch.ones(()), torch.ones(())))
    assert float(graph["params['a']"].grad) == 1
    assert float(graph["params['b'][1]"].grad) == 1
    assert graph["params['b'][0]"].grad is None


def test_hooks_of_the_user_act_on_what_is_recorded():
    def hooked(x):
        y = x * 2
        y.register_hook(lambda gradient: gradient * 10)
        return y * x

    graph = trace(hooked, leaf(3.0))
    assert float(graph["y"].grad) == 30
    assert float(graph["x"].grad) == 60 + 6
    assert float(graph["y"].parts["y * x"]) == 3
    assert "a hook changed it" in graph.explain("y")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64])
def test_other_kinds_of_numbers_are_kept(dtype):
    x = torch.tensor([1.0, 2.0], dtype=dtype, requires_grad=True)
    graph = trace(lambda x: (x * x).sum(), x)
    assert graph["x"].grad.dtype == str(dtype).removeprefix("torch.")
    np.testing.assert_allclose(graph["x"].grad, [2, 4])


def test_tensors_without_entries_are_no_trouble():
    graph = trace(lambda x: x.sum() + x.prod(), torch.zeros(0, 3, requires_grad=True))
    assert graph["x"].grad.shape == (0, 3)
    assert graph["x"].value.brief == "empty"


def test_big_tensors_are_kept_as_statistics():
    x = torch.arange(10.0, requires_grad=True)
    node = trace(lambda x: (x**2).sum(), x, keep=5)["x"]
    assert node.value.values is None
    assert node.value.stats == (0, 9, 4.5, 0)
    assert node.grad.stats[:3] == (0, 18, 9)
    with pytest.raises(ValueError, match="only statistics were kept"):
        np.asarray(node.value)
    bad = torch.tensor([1.0, float("nan"), 3.0, float("inf"), -2.0, 0.0])
    assert trace(lambda v: v, bad, keep=5)["v"].value.stats == (-2, 3, 0.5, 2)
    assert trace(lambda v: v, bad > 0, keep=5)["v"].value.stats[:2] == (0, 1)
    assert trace(lambda v: v, bad * torch.nan, keep=5)["v"].value.brief == "6 not finite"


def test_a_graph_that_grows_too_big_is_refused():
    def long(x):
        for _ in range(100):
            x = x + 1
        return x

    with pytest.raises(TraceError, match="more than 50 operations"):
        trace(long, leaf(1.0), max_nodes=50)


def test_a_function_without_tensors_gives_a_graph_without_results():
    graph = trace(lambda x: x.detach().tolist(), leaf([1.0]))
    assert graph.results == ()
    assert graph.result == [1.0]
    assert graph["x"].grad is None


def test_several_backward_passes_each_leave_their_gradients():
    def steps(p):
        for _ in range(3):
            loss = p**2
            loss.backward()
            with torch.no_grad():
                p -= 0.25 * p.grad
            p.grad = None
        return p

    graph = trace(steps, leaf(1.0))
    values = [float(node.value) for node in graph.find("p")]
    grads = [node.grad and float(node.grad) for node in graph.find("p")]
    assert values == pytest.approx([1, 0.5, 0.25, 0.125])
    assert grads == [2, 1, 0.5, None]
    assert len(graph.backwards) == 3


@pytest.mark.slow
def test_speed_is_within_ten_times_a_plain_forward_and_backward():
    a, b, x = leaf(0.5), leaf(0.0), torch.arange(20.0, dtype=torch.float64)
    y = 2 * x

    def loss(a, b, x, y):
        return torch.mean((a * x - y + b) ** 2 / (a**2 + 1))

    def plain() -> None:
        torch.autograd.grad(loss(a, b, x, y), (a, b))

    def traced() -> None:
        trace(loss, a, b, x, y)

    def seconds(run) -> float:  # of this thread alone: other programs may share the machine
        started = thread_time()
        for _ in range(10):
            run()
        return thread_time() - started

    def ratio() -> float:
        pairs = [(seconds(plain), seconds(traced)) for _ in range(10)]
        return median(t for _, t in pairs) / median(p for p, _ in pairs)

    assert min(ratio() for _ in range(5)) < 10  # noise only ever adds
