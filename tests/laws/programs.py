"""Random torch programs, as source text: broadcasting, reductions, indexing, views, writes."""

import itertools
import linecache
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

Step = tuple[str, int, int, int]
"""A kind of step, two numbers that choose variables, and one that chooses among variants."""

KINDS = (
    *("binary", "unary", "divide", "reduce", "index", "gather", "view", "write", "write_view"),
    *("matmul", "where", "cat", "stack", "split", "unrecorded"),
)
LEAVES = {"a": (2, 3), "b": (3,), "c": (2, 1), "d": ()}

steps = st.lists(
    st.tuples(
        st.sampled_from(KINDS), st.integers(0, 99), st.integers(0, 99), st.sampled_from(range(12))
    ),
    min_size=2,
    max_size=14,
)

_numbers = itertools.count()


class Writer:
    """Turns steps into lines that run; what a step cannot do with the shapes at hand, it skips."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.shapes: dict[str, tuple[int, ...]] = dict(LEAVES)
        self.used: set[str] = set()

    def source(self, program: Sequence[Step]) -> str:
        for kind, one, two, variant in program:
            getattr(self, kind)(one, two, variant)
        last = [name for name in self.shapes if name not in self.used]
        total = " + ".join(f"({name} * {name}).mean()" for name in last)
        body = "\n".join(f"    {line}" for line in self.lines)
        return f"def program({', '.join(LEAVES)}):\n{body}\n    return {total}\n"

    # -- words -------------------------------------------------------------------------------------

    def pick(self, number: int, *sizes: int) -> str:
        """Choose a variable with so many dimensions; leaves have all of them."""
        fitting = [n for n, s in self.shapes.items() if not sizes or len(s) in sizes]
        name = fitting[number % len(fitting)]
        self.used.add(name)
        return name

    def new(self, text: str, shape: Sequence[int]) -> str:
        name = f"v{len(self.shapes)}"
        self.lines.append(f"{name} = {text}")
        self.shapes[name] = tuple(shape)
        return name

    def two(self, one: int, two: int) -> tuple[str, str, tuple[int, ...]] | None:
        """Choose two variables that broadcast."""
        x, y = self.pick(one), self.pick(two)
        try:
            return x, y, tuple(torch.broadcast_shapes(self.shapes[x], self.shapes[y]))
        except RuntimeError:
            return None

    # -- steps -------------------------------------------------------------------------------------

    def binary(self, one: int, two: int, variant: int) -> None:
        if pair := self.two(one, two):
            x, y, shape = pair
            text = ("{} + {}", "{} - {}", "{} * {}", "torch.maximum({}, {})")[variant % 4]
            self.new(text.format(x, y), shape)

    def unary(self, one: int, two: int, variant: int) -> None:
        x = self.pick(one)
        texts = (
            *("torch.sin({})", "{}.tanh()", "torch.sigmoid({})", "-{}", "{} ** 2", "{} ** 3"),
            *("torch.exp({}.cos())", "({} ** 2 + 1).sqrt()", "2 - {}", "{}.clamp(-1, 1)"),
            *("{}.abs()", "torch.relu({})"),
        )
        self.new(texts[variant % len(texts)].format(x), self.shapes[x])

    def divide(self, one: int, two: int, variant: int) -> None:
        if pair := self.two(one, two):
            self.new(f"{pair[0]} / ({pair[1]} ** 2 + 1)", pair[2])

    def reduce(self, one: int, two: int, variant: int) -> None:
        x = self.pick(one, 1, 2)
        shape = self.shapes[x]
        axis = two % len(shape)
        rest = [n for i, n in enumerate(shape) if i != axis]
        kept = [1 if i == axis else n for i, n in enumerate(shape)]
        texts = (
            ("{}.sum()", ()),
            ("{}.mean()", ()),
            (f"{{}}.sum({axis})", rest),
            (f"torch.mean({{}}, dim={axis}, keepdim=True)", kept),
            (f"torch.logsumexp({{}}, {axis})", rest),
            (f"{{}}.amax({axis})", rest),
            (f"{{}}.prod({axis})", rest),
            (f"torch.softmax({{}}, {axis})", shape),
            (f"{{}}.cumsum({axis})", shape),
            (f"torch.max({{}}, {axis}).values", rest),
        )
        text, result = texts[variant % len(texts)]
        self.new(text.format(x), result)

    def index(self, one: int, two: int, variant: int) -> None:
        x = self.pick(one, 1, 2)
        shape = self.shapes[x]
        if variant % 3 == 0:
            self.new(f"{x}[{two % shape[0]}]", shape[1:])
        elif variant % 3 == 1:
            self.new(f"{x}[..., -1:]", (*shape[:-1], 1))
        elif shape[0] > 1:
            self.new(f"{x}[None, 1:]", (1, shape[0] - 1, *shape[1:]))

    def gather(self, one: int, two: int, variant: int) -> None:
        x = self.pick(one, 1, 2)
        shape = self.shapes[x]
        rows = [two % shape[0], 0, two % shape[0]]
        self.new(f"{x}[torch.tensor({rows})]", (3, *shape[1:]))

    def view(self, one: int, two: int, variant: int) -> None:
        x = self.pick(one)
        shape = self.shapes[x]
        count = torch.Size(shape).numel()
        texts = (
            (f"{x}.reshape(-1)", (count,)),
            (f"{x}.unsqueeze(0)", (1, *shape)),
            (f"{x}.expand(2, {', '.join(['-1'] * len(shape))})", (2, *shape)),
            (f"{x}.transpose(0, -1)", (*shape[-1:], *shape[1:-1], *shape[:1])),
        )
        text, result = texts[variant % (3 if len(shape) < 2 else 4)]
        self.new(text, result)

    def write(self, one: int, two: int, variant: int) -> None:
        """Write in place, in ways that save nothing they overwrite."""
        if (pair := self.two(one, two)) is None:
            return
        x, y, shape = pair
        if shape != self.shapes[x]:
            return
        name = self.new(f"{x} * 1.5", shape)
        texts = ("{}.add_({})", "{} += {}", "{} -= {}", "{}.mul_(0.5).add_({})")
        self.lines.append(texts[variant % 4].format(name, y))
        if shape and variant > 5:
            self.used.add("d")
            self.lines.append(f"{name}[0] = d")

    def write_view(self, one: int, two: int, variant: int) -> None:
        x = self.pick(one, 1, 2)
        shape = self.shapes[x]
        count = torch.Size(shape).numel()
        name = self.new(f"({x} + 0.25).contiguous()", shape)
        flat = self.new(f"{name}.view(-1)", (count,))
        self.used.add("d")
        lines = (f"{flat}[{two % count}] = d", f"{flat}.mul_(-0.5)", f"{name}[0].add_(d)")
        self.lines.append(lines[variant % 3])

    def matmul(self, one: int, two: int, variant: int) -> None:
        x, y = self.pick(one, 1, 2), self.pick(two, 1, 2)
        if self.shapes[x][-1] == self.shapes[y][0]:
            shape = (*self.shapes[x][:-1], *self.shapes[y][1:])
            self.new(f"{x} @ {y} / 4", shape)
        elif len(self.shapes[x]) == 2:
            n = self.shapes[x][0]
            self.new(f"torch.matmul({x}, {x}.T) / 4", (n, n))
        else:
            shape = (*self.shapes[x], *self.shapes[x])
            self.new(f"torch.outer({x}, {x}) / 4", shape)

    def where(self, one: int, two: int, variant: int) -> None:
        if pair := self.two(one, two):
            x, y, shape = pair
            self.new(f"torch.where({x} > 0.1, {x} * 2, {y})", shape)

    def cat(self, one: int, two: int, variant: int) -> None:
        x, y = self.pick(one, 1, 2), self.pick(two, 1, 2)
        y = y if self.shapes[x][1:] == self.shapes[y][1:] else x
        shape = (2 * self.shapes[x][0] + self.shapes[y][0], *self.shapes[x][1:])
        self.new(f"torch.cat([{x}, {y}, {x}], 0)", shape)

    def stack(self, one: int, two: int, variant: int) -> None:
        x, y = self.pick(one), self.pick(two)
        y = y if self.shapes[x] == self.shapes[y] else x
        self.new(f"torch.stack([{x}, {y}])", (2, *self.shapes[x]))

    def split(self, one: int, two: int, variant: int) -> None:
        x = self.pick(one, 1, 2)
        shape = self.shapes[x]
        if shape[0] >= 2:
            part = ((shape[0] - 1, 1)[variant % 2], *shape[1:])
            self.new(f"torch.split({x}, {shape[0] - 1})[{variant % 2}] * 1.0", part)

    def unrecorded(self, one: int, two: int, variant: int) -> None:
        x = self.pick(one)
        self.lines.append("with torch.no_grad():")
        name = f"v{len(self.shapes)}"
        self.lines.append(f"    {name} = {x}.abs().sum() + 1")
        self.shapes[name] = ()
        self.new(f"{x} / {name}", self.shapes[x])


def written(program: Sequence[Step]) -> tuple[str, Callable[..., Any]]:
    """Return the source of a program, and the program; tracebacks and traces can read its lines."""
    source = Writer().source(program)
    file = f"<program {next(_numbers)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    space: dict[str, Any] = {"torch": torch}
    exec(compile(source, file, "exec"), space)
    return source, space["program"]


def leaves() -> tuple[Tensor, ...]:
    """Return the inputs of a program, all of which require grad."""
    generator = torch.Generator().manual_seed(7)
    return tuple(
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in LEAVES.values()
    )
