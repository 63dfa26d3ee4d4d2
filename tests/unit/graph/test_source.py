"""Every operation knows the sub-expression it was written as, and tensors their names."""

from pathlib import Path

import pytest
import torch

from gradfit.graph import trace

LINES = Path(__file__).read_text(encoding="utf-8").splitlines()


def line_of(text: str) -> int:
    (number,) = [n for n, line in enumerate(LINES, 1) if text in line and "line_of" not in line]
    return number


def leaf(value):
    return torch.tensor(value, requires_grad=True)


def test_columns_cut_out_the_very_sub_expression():
    def loss(a, x):
        return torch.mean((a * x + 1) ** 2)  # here

    graph = trace(loss, leaf(2.0), torch.ones(3))
    source = graph["a * x"].source
    line = LINES[source.line - 1]
    assert source.line == line_of("# here")
    assert line[source.col : source.end_col] == source.expr == "a * x"
    assert source.statement == "return torch.mean((a * x + 1) ** 2)"
    assert source.function.endswith("loss")
    assert [node.op for node in graph][2:] == ["*", "+", "**", "mean"]


def test_expressions_over_several_lines_come_out_on_one():
    def loss(a, x):
        r = torch.where(
            x > 0,
            a * x,
            x,
        )
        return r.sum()

    graph = trace(loss, leaf(2.0), torch.ones(3))
    assert graph["r"].expr == "torch.where( x > 0, a * x, x, )"
    assert graph["r"].source.end_line - graph["r"].source.line == 4
    assert graph["x > 0"].source.statement_line == graph["r"].source.line


def test_characters_outside_ascii_do_not_shift_the_columns():
    def loss(α, β):
        return "αβγ" and α * β

    assert trace(loss, leaf(2.0), leaf(3.0))["α * β"].op == "*"


def test_lambdas_and_comprehensions_are_read():
    graph = trace(lambda x: sum(x[i] * i for i in range(3)), leaf([1.0, 2.0, 3.0]))
    assert len(graph.find("x[i] * i")) == 3
    assert graph["x[i] * i"].source.statement.startswith("sum(")


def test_names_come_from_assignments_of_every_kind():
    class Box:
        held = None

    box = Box()

    def fn(x):
        y = x * 2
        z: torch.Tensor = y + 1
        first, second = torch.split(x, 1)
        box.held = z - 3
        best = torch.max(x, 0)
        return (w := box.held * 4) + first + second + best.values + w

    graph = trace(fn, leaf([1.0, 2.0]))
    wanted = {"x", "y", "z", "first", "second", "box.held", "best.values", "best.indices", "w"}
    assert wanted <= set(graph.names)
    assert graph["y"].source.is_whole_rhs
    assert not graph["box.held * 4"].source.expr.startswith("(")


def test_names_of_closures_globals_and_parts_are_found_where_they_are_used():
    held = {"a": leaf(2.0)}
    scale = leaf(3.0)

    def model(t):
        return t * scale

    def fn(x):
        return model(x * held["a"]).sum()

    graph = trace(fn, leaf([1.0]))
    assert graph["scale"].kind == graph['held["a"]'].kind == "leaf"
    assert graph["t"].expr == 'x * held["a"]'


def test_operations_inside_one_library_call_share_its_text_but_only_the_last_is_it():
    normal = torch.distributions.Normal(leaf(0.0), leaf(1.0))

    def fn(x):
        density = normal.log_prob(x)
        return density.sum()

    graph = trace(fn, torch.ones(3))
    assert len(graph.find("density")) == 1
    assert graph["density"].expr == "normal.log_prob(x)"
    inner = [
        n for n in graph if n.source and n.source.statement.startswith("density") and not n.expr
    ]
    assert len(inner) >= 3


def test_code_without_source_falls_back_to_names_of_operations():
    space = {}
    exec("def fn(x):\n    return x * 2 + 1", space)
    graph = trace(space["fn"], leaf(1.0))
    assert [node.label for node in graph] == ["x", "mul", "add"]
    assert graph[1].source.line == 2


@pytest.mark.parametrize(
    ("fn", "op"),
    [
        (lambda x: -x, "-"),
        (lambda x: x @ x, "@"),
        (lambda x: x[0], "[]"),
        (lambda x: 2 - x, "-"),
        (lambda x: torch.add(x, x), "add"),
        (lambda x: x.pow(2), "pow"),
        (lambda x: x.T, ".T"),
        (lambda x: abs(x), "abs"),
    ],
)
def test_operations_are_written_as_the_user_did(fn, op):
    with torch.no_grad():
        x = torch.ones(2, 2)
    assert trace(fn, x)[1].op == op


def test_reads_show_where_python_looked_at_a_number():
    def fn(x):
        if x.sum() > 0:
            return x * x[0].item()
        return x

    graph = trace(fn, leaf([1.0, 2.0]))
    reads = [(node.op, node.expr, node.read_answer) for node in graph if node.kind == "read"]
    assert reads == [("bool", "x.sum() > 0", "True"), ("item", "x[0].item()", "1")]


def test_statements_of_one_call_share_its_frame():
    def square(t):
        u = t * t
        return u + 1

    graph = trace(lambda x: square(x) + square(2 * x), leaf(1.0))
    frames = [node.frame for node in graph.find("u")]
    assert len(set(frames)) == 2
    assert graph.find("u + 1")[0].frame == frames[0]


class Scaled(torch.nn.Module):
    def forward(self, v):
        return v * 2


def test_a_library_call_that_runs_code_of_the_user_is_not_its_first_operation():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), Scaled())
    graph = trace(lambda v: net(v).sum(), torch.ones(2))
    assert not [node for node in graph if node.expr == "net(v)"]
    assert graph["v * 2"].op == "*"
    backwards = torch.nn.Sequential(Scaled(), torch.nn.Linear(2, 2))
    graph = trace(lambda v: backwards(v).sum(), torch.ones(2))
    assert graph["backwards(v)"].op == "linear"
