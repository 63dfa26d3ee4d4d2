"""Every bad value and gradient is found where it was born, with the line and a remedy."""

from pathlib import Path

import pytest
import torch

from gradfit.graph import trace
from gradfit.graph.problems import uncleared

LINES = Path(__file__).read_text(encoding="utf-8").splitlines()


def leaf(value):
    return torch.tensor(value, requires_grad=True)


def root_of_root(x):
    y = torch.sqrt(x - 2)  # nan: forward
    y = torch.sqrt(y)
    return y


def log_of_negative(x):
    return torch.log(-x).sum()  # nan: forward log


def overflow(x):
    return torch.exp(x * 1000)  # inf: forward


def masked_root(n):
    return torch.where(
        n > 0,
        torch.sqrt(n),  # nan: backward
        n,
    ).sum()


def distance(t):
    return torch.sqrt((t**2).sum())  # inf: backward


def angle(t):
    return torch.acos(t)  # inf: backward acos


def root_as_power(t):
    return t**0.5  # inf: backward power


def rounded(t):
    return (t.round() * 2).sum()  # zero: round


def clamped(t):
    return torch.clamp(t, 0, 1).sum()  # zero: clamp


def dead_units(t):
    return torch.relu(t - 10).sum()  # zero: relu


def detached(x):
    scale = x.detach() * 2  # none: detach
    return scale * x.sum().detach()


def unrecorded(x):
    with torch.no_grad():
        scale = x * 2  # none: no_grad
    return scale.sum()


def chosen(x):
    return x.argmax() * 1.0  # none: argmax


def read_out(x):
    return torch.tensor(x.tolist()).sum()  # none: tolist


def overwritten(x):
    y = x.exp()
    z = y * 2
    y.mul_(3)  # overwritten
    return (z + y).sum()


def overwritten_part(x, w):
    y = x * 1
    z = y * w
    y[0] = 3  # overwritten part
    return (z + y).sum()


def twice(x):
    (x**2).sum().backward()
    (x**3).sum().backward()  # uncleared


CASES = [
    (root_of_root, (leaf(1.0),), "nan", "forward", "torch.sqrt(x - 2)", "# nan: forward"),
    (log_of_negative, (leaf([1.0]),), "nan", "forward", "torch.log(-x)", "# nan: forward log"),
    (overflow, (leaf(1.0),), "inf", "forward", "torch.exp(x * 1000)", "# inf: forward"),
    (masked_root, (leaf([0.0, 4.0]),), "nan", "backward", "torch.sqrt(n)", "# nan: backward"),
    (distance, (leaf([0.0, 0.0]),), "inf", "backward", "torch.sqrt(", "# inf: backward"),
    (angle, (leaf(1.0),), "inf", "backward", "torch.acos(t)", "# inf: backward acos"),
    (root_as_power, (leaf(0.0),), "inf", "backward", "t**0.5", "# inf: backward power"),
    (rounded, (leaf([1.2]),), "zero", "backward", "t.round()", "# zero: round"),
    (clamped, (leaf([2.0, 3.0]),), "zero", "backward", "torch.clamp(", "# zero: clamp"),
    (dead_units, (leaf([2.0, 3.0]),), "zero", "backward", "torch.relu(", "# zero: relu"),
    (detached, (leaf([1.0]),), "none", "backward", "x.detach()", "# none: detach"),
    (unrecorded, (leaf([1.0]),), "none", "backward", "x * 2", "# none: no_grad"),
    (chosen, (leaf([1.0, 2.0]),), "none", "backward", "x.argmax()", "# none: argmax"),
    (read_out, (leaf([1.0]),), "none", "backward", "x.tolist()", "# none: tolist"),
    (overwritten, (leaf([1.0]),), "overwritten", "backward", "y.mul_(3)", "# overwritten"),
    (
        overwritten_part,
        (leaf([1.0, 2.0]), leaf([1.0, 2.0])),
        *("overwritten", "backward", "y[0] = 3", "# overwritten part"),
    ),
    (twice, (leaf([1.0]),), "uncleared", "backward", "`x` held a gradient", "# uncleared"),
]


@pytest.mark.parametrize(
    ("fn", "inputs", "kind", "phase", "text", "mark"), CASES, ids=[c[0].__name__ for c in CASES]
)
def test_origin_is_found_at_the_right_line(fn, inputs, kind, phase, text, mark):
    inputs = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    found = trace(fn, *inputs).problems()
    assert len(found) == 1, str(found)
    (problem,) = found
    assert (problem.kind, problem.phase) == (kind, phase)
    assert text in problem.message
    assert LINES[problem.line - 1].endswith(mark)
    assert problem.remedy
    assert f"line {problem.line}: " in str(problem)


def test_a_value_that_where_drops_still_spoils_the_gradient():
    def fn(n):
        return torch.where(n > 0, torch.sqrt(n), n).sum()

    forward, backward = trace(fn, leaf([4.0, -1.0])).problems()
    assert forward.phase == "forward"
    assert "in the branch that `where`" in backward.message
    assert "choose before computing" in backward.remedy


def test_bad_data_are_named_with_the_first_index():
    x = torch.tensor([1.0, float("nan"), 2.0])
    (problem,) = trace(lambda a, x: (a * x).sum(), leaf(1.0), x).problems()
    assert problem.message == "`x` came in with NaN, first at index 1"


def test_overwritten_names_both_lines():
    (problem,) = trace(overwritten, leaf([1.0])).problems()
    saved = next(n for n, line in enumerate(LINES, 1) if "y = x.exp()" in line)
    assert f"`x.exp()` on line {saved} saved its result" in problem.message
    assert f"`y.mul_(3)` on line {saved + 2} overwrote it" in problem.message


def test_leaves_that_are_not_used_or_not_returned_are_told_apart():
    def fn(x, spare, lost):
        lost * 2
        return x * 2

    found = trace(fn, leaf(1.0), leaf(1.0), leaf(1.0)).problems()
    assert [problem.message for problem in found] == [
        "`spare` is not used: its gradient is None",
        "what is computed from `lost` is not part of the result: its gradient is None",
    ]


def test_a_gradient_from_before_the_trace_is_seen():
    x = leaf(1.0)
    (x * 2).backward()
    graph = trace(lambda x: x * 3, x)
    (problem,) = graph.problems()
    assert problem.kind == "uncleared"
    assert "`x` held a gradient from before the trace" in problem.message
    assert float(graph["x"].stale_grad) == 2
    assert float(graph["x"].grad) == 3
    assert float(x.grad) == 2


def test_a_gradient_that_is_cleared_is_no_problem():
    x = leaf(1.0)
    (x * 2).backward()

    def step(x):
        x.grad = None
        (x * 3).backward()

    assert not trace(step, x).problems()


def test_a_graph_that_was_used_up_is_named():
    h = leaf(1.0).exp()
    y = h * h
    y.backward()
    (problem,) = trace(lambda h: y * h, h).problems()
    assert problem.kind == "freed"
    assert "a second time" in problem.message


def test_leaves_that_hold_a_gradient_are_listed():
    x, y = leaf(1.0), leaf(2.0)
    (x * 2).backward()
    assert uncleared({"x": x, "y": y}) == ("x",)


def test_a_sound_function_has_no_problems():
    found = trace(lambda a, x: ((a * x - 1) ** 2).mean(), leaf(0.0), torch.ones(3)).problems()
    assert not found
    assert str(found) == "no problems found"


def test_a_mask_of_infinities_does_no_harm():
    def attention(x):
        mask = torch.full((2, 2), -float("inf")).triu(1)
        return torch.softmax(x + mask, -1)[:, 0].sum()

    assert not trace(attention, leaf([[1.0, 2.0], [3.0, 4.0]])).problems()


@pytest.mark.parametrize(
    ("fn", "at", "remedy"),
    [
        (lambda x: x**2, 1e30, "more than float32 can hold"),
        (lambda x: torch.exp(x), 1e3, "more than float32 can hold"),
        (lambda x: torch.log(x), 0.0, "log of 0 is -inf"),
        (lambda x: 1 / x, 0.0, "divide by 0"),
        (lambda x: x**0.5, -1.0, "fractional power"),
        (lambda x: torch.atan2(x, x * 0), 0.0, "no slope at this point"),
        (lambda x: torch.linalg.norm(x), 0.0, "no slope at this point"),
        (lambda x: x.reshape(1)[:0].mean(), 1.0, "no entries"),
    ],
)
def test_the_remedy_fits_what_happened(fn, at, remedy):
    found = trace(fn, leaf(at)).problems()
    assert remedy in found[0].remedy


def test_of_two_inputs_the_one_that_was_overwritten_is_named():
    def product(x):
        y = x * 2
        z = y.sum() * y
        y.view(-1).zero_()
        return z.sum()

    (problem,) = trace(product, leaf([1.0, 2.0])).problems()
    assert "saved `y` for its backward" in problem.message
    assert "`y.view(-1).zero_()`" in problem.message


def test_a_nan_made_of_infinities_is_found_where_they_met():
    def spoiled(x):
        mask = torch.full((2, 2), -float("inf"))
        return torch.softmax(x + mask, -1).sum()

    (problem,) = trace(spoiled, leaf([[1.0, 2.0], [3.0, 4.0]])).problems()
    assert (problem.kind, problem.phase) == ("nan", "forward")
    assert "`torch.softmax(x + mask, -1)`" in problem.message
    assert "see where the inf comes from" in problem.remedy


def function(answer):
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return answer(grad)

    return Broken


def refuse(grad):
    raise ValueError("I cannot")


def test_a_backward_that_sends_nothing_back_is_named():
    silent = function(lambda grad: None)
    graph = trace(lambda x, y: silent.apply(x * 2).sum() + y.sum(), leaf([1.0]), leaf([1.0]))
    (problem,) = graph.problems()
    assert (problem.kind, graph[problem.node].expr) == ("none", "silent.apply(x * 2)")
    assert "the backward of `silent.apply(x * 2)` sends nothing to `x * 2`" in problem.message


@pytest.mark.parametrize(
    ("answer", "said"),
    [(refuse, "ValueError: I cannot"), (lambda grad: grad.repeat(3), "invalid gradient")],
)
def test_a_backward_of_the_user_that_fails_is_named(answer, said):
    broken = function(answer)
    x = leaf([1.0, 2.0])
    (problem,) = trace(lambda x: broken.apply(x).sum(), x).problems()
    assert said in problem.message
    assert problem.remedy == "mend the backward of Broken"
    assert x.grad is None


def test_a_gradient_that_cancels_at_a_minimum_is_no_problem():
    target = torch.tensor([1.0, 3.0])
    graph = trace(lambda b: ((target * 1.0 - b) ** 2).sum(), leaf(2.0))
    assert float(graph["b"].grad) == 0
    assert not graph.problems()
