"""NumPy rules for shapes, parts of arrays, joins, products and linear algebra."""

from collections.abc import Sequence
from typing import Any

from gradfit.graph.writing import (
    Arg,
    NoRuleError,
    Op,
    Shape,
    axes_of,
    literal,
    rule,
)

# -- the same numbers in another shape -------------------------------------------------------------


@rule("clone", "contiguous", "double", "float", "to", "type_as", "alias", "requires_grad")
def _same(op: Op, input: Arg, *_: Any, **__: Any) -> None:
    op.is_(f"np.array({input})")
    op.back(input, op.g)


@rule("detach", "data")
def _detach(op: Op, input: Arg) -> None:
    op.is_(input)


@rule("reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel", "view_as")
def _reshape(op: Op, input: Arg, *_: Any, **__: Any) -> None:
    shape = op.shape
    op.view(input, lambda t: f"{t}.reshape({shape})", f"{op.g}.reshape({input.shape})")


@rule("expand", "expand_as", "broadcast_to")
def _expand(op: Op, input: Arg, *_: Any, **__: Any) -> None:
    op.is_(f"np.broadcast_to({input}, {op.shape})")
    op.back(input, op.g)


@rule("T", "t", "mT")
def _turned(op: Op, input: Arg) -> None:
    n = len(input.shape)
    _ordered(op, input, tuple(range(n)) if n < 2 else (*range(n - 2), n - 1, n - 2))


@rule("transpose", "swapaxes", "swapdims")
def _swapped(op: Op, input: Arg, dim0: int, dim1: int) -> None:
    order = list(range(len(input.shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    _ordered(op, input, tuple(order))


@rule("permute")
def _permuted(op: Op, input: Arg, *dims: Any) -> None:
    flat = dims[0] if dims and isinstance(dims[0], (tuple, list)) else dims
    _ordered(op, input, axes_of(tuple(flat), len(input.shape)))


@rule("movedim", "moveaxis")
def _moved(op: Op, input: Arg, source: Any, destination: Any) -> None:
    op.view(
        input,
        lambda t: f"np.moveaxis({t}, {source}, {destination})",
        f"np.moveaxis({op.g}, {destination}, {source})",
    )


def _ordered(op: Op, input: Arg, order: Shape) -> None:
    back = tuple(order.index(i) for i in range(len(order)))
    op.view(input, lambda t: f"np.transpose({t}, {order})", f"np.transpose({op.g}, {back})")


@rule("flip")
def _flip(op: Op, input: Arg, *dims: Any) -> None:
    flat = dims[0] if isinstance(dims[0], (tuple, list)) else dims
    axes = axes_of(tuple(flat), len(input.shape))
    op.is_(f"np.flip({input}, {axes})")
    op.back(input, f"np.flip({op.g}, {axes})")


@rule("roll")
def _roll(op: Op, input: Arg, shifts: Any, dims: Any = None) -> None:
    op.is_(f"np.roll({input}, {shifts}, axis={dims})")
    counter = tuple(-s for s in shifts) if isinstance(shifts, (tuple, list)) else -shifts
    op.back(input, f"np.roll({op.g}, {counter}, axis={dims})")


# -- parts of arrays -------------------------------------------------------------------------------


@rule("getitem")
def _getitem(op: Op, input: Arg, index: Any) -> None:
    text, is_view = index_text(index)
    if is_view:
        text = text if op.shape or "..." in text else f"{text}, ..."  # a view, not a number
        op.view(input, lambda t: f"{t}[{text}]")
    else:
        op.is_(f"{input}[{text}]")
        op.scatter(input, lambda t: f"{t}[{text}]", op.g, adds=True)


def index_text(index: Any) -> tuple[str, bool]:
    """Write an index; tell whether it takes a view, as plain slices do."""
    parts = index if isinstance(index, tuple) else (index,)
    texts = [_one_index(part) for part in parts]
    plain = all(isinstance(p, (int, slice, type(None), type(...))) for p in parts)
    return ", ".join(texts) or "()", plain and not any(isinstance(p, bool) for p in parts)


def _one_index(part: Any) -> str:
    if isinstance(part, slice):
        ends = ["" if end is None else str(end) for end in (part.start, part.stop)]
        step = "" if part.step is None else f":{part.step}"
        return f"{ends[0]}:{ends[1]}{step}"
    return "..." if part is ... else str(part)


def _along(axis: int, n: int, text: str) -> str:
    """Index one axis of many."""
    return ", ".join([*[":"] * axis, text, *[":"] * (n - axis - 1)])


@rule("select")
def _select(op: Op, input: Arg, dim: int, index: int) -> None:
    where = _along(dim % len(input.shape), len(input.shape), str(index))
    op.view(input, lambda t: f"{t}[{where}]")


@rule("narrow")
def _narrow(op: Op, input: Arg, dim: int, start: int, length: int) -> None:
    where = _along(dim % len(input.shape), len(input.shape), f"{start}:{start + length}")
    op.view(input, lambda t: f"{t}[{where}]")


@rule("index_select")
def _index_select(op: Op, input: Arg, dim: int, index: Arg) -> None:
    where = _along(dim % len(input.shape), len(input.shape), index)
    op.is_(f"{input}[{where}]")
    op.scatter(input, lambda t: f"{t}[{where}]", op.g, adds=True)


@rule("gather")
def _gather(op: Op, input: Arg, dim: int, index: Arg, **_: Any) -> None:
    axis, n = dim % len(input.shape), len(input.shape)
    grid = ", ".join(
        str(index) if k == axis else f"np.indices({index.shape}, sparse=True)[{k}]"
        for k in range(n)
    )
    op.is_(f"{input}[{grid}]")
    op.scatter(input, lambda t: f"{t}[{grid}]", op.g, adds=True)


@rule("take_along_dim")
def _take_along(op: Op, input: Arg, indices: Arg, dim: int | None = None) -> None:
    if dim is None:
        raise NoRuleError
    _gather(op, input, dim, indices)


@rule("masked_fill")
def _masked_fill(op: Op, input: Arg, mask: Arg, value: Any) -> None:
    op.is_(f"np.where({mask}, {literal(value)}, {input})")
    op.back(input, f"np.where({mask}, 0, {op.g})")
    op.back(value, f"np.where({mask}, {op.g}, 0)")


@rule("repeat")
def _repeat(op: Op, input: Arg, *sizes: Any) -> None:
    counts = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    op.is_(f"np.tile({input}, {tuple(counts)})")
    lead = (1,) * (len(counts) - len(input.shape))
    pairs = zip(counts, (*lead, *input.shape), strict=True)
    folded = tuple(n for pair in pairs for n in pair)
    axes = tuple(range(0, len(folded), 2))
    op.back(
        input, f"np.sum({op.g}.reshape({folded}), axis={axes}).reshape({input.shape})", input.shape
    )


@rule("diagonal", "diag")
def _diagonal(op: Op, input: Arg, diagonal: int = 0) -> None:
    if len(input.shape) == 1:
        op.is_(f"np.diag({input}, {diagonal})")
        op.back(input, f"np.diagonal({op.g}, {diagonal})", input.shape)
        return
    if len(input.shape) != 2:
        raise NoRuleError
    (n,) = op.shape
    rows, columns = max(-diagonal, 0), max(diagonal, 0)
    where = f"np.arange({n}) + {rows}, np.arange({n}) + {columns}"
    op.is_(f"{input}[{where}]")
    op.scatter(input, lambda t: f"{t}[{where}]", op.g)


@rule("trace")
def _trace(op: Op, input: Arg) -> None:
    op.is_(f"np.trace({input})")
    op.back(input, f"{op.g} * np.eye(*{input.shape})", input.shape)


@rule("tril")
def _tril(op: Op, input: Arg, diagonal: int = 0) -> None:
    op.is_(f"np.tril({input}, {diagonal})")
    op.back(input, f"np.tril({op.g}, {diagonal})")


@rule("triu")
def _triu(op: Op, input: Arg, diagonal: int = 0) -> None:
    op.is_(f"np.triu({input}, {diagonal})")
    op.back(input, f"np.triu({op.g}, {diagonal})")


@rule("split", "chunk", "unbind", "tensor_split", "hsplit", "vsplit")
def _split(op: Op, input: Arg, *args: Any, dim: int | None = None, **_: Any) -> None:
    """Each output is the next stretch along one axis, as its recorded shape says."""
    dim = next((a for a in args[-1:] if len(args) > 1 and isinstance(a, int)), dim)
    lower = len(op.shape) < len(input.shape)
    axis = (dim if dim is not None else args[0] if lower and args else 0) % len(input.shape)
    start = 0
    for each in op.names:
        g, shape = each[1], each[2]
        stop = start + (1 if lower else shape[axis])
        where = _along(axis, len(input.shape), str(start) if lower else f"{start}:{stop}")
        op.is_(f"{input}[{where}]", lambda t, where=where: f"{t}[{where}]")
        op.scatter(input, lambda t, where=where: f"{t}[{where}]", g)
        start = stop


# -- joins -----------------------------------------------------------------------------------------


@rule("cat", "concat", "concatenate")
def _cat(op: Op, tensors: Sequence[Arg], dim: int = 0) -> None:
    n = len(op.shape)
    op.is_(f"np.concatenate([{', '.join(tensors)}], axis={dim})")
    start = 0
    for tensor in tensors:
        stop = start + tensor.shape[dim % n]
        op.back(tensor, f"{op.g}[{_along(dim % n, n, f'{start}:{stop}')}]", tensor.shape)
        start = stop


@rule("stack")
def _stack(op: Op, tensors: Sequence[Arg], dim: int = 0) -> None:
    n = len(op.shape)
    op.is_(f"np.stack([{', '.join(tensors)}], axis={dim})")
    for index, tensor in enumerate(tensors):
        op.back(tensor, f"{op.g}[{_along(dim % n, n, str(index))}]", tensor.shape)


# -- products --------------------------------------------------------------------------------------


@rule("matmul", "mm", "mv", "bmm", "dot", "inner", "vdot", "imatmul")
def _matmul(op: Op, input: Arg, other: Arg) -> None:
    a, b, g = input, other, op.g
    op.is_(f"{a} @ {b}")
    if len(a.shape) == 1 and len(b.shape) == 1:
        op.back(a, f"{g} * {b}", a.shape)
        op.back(b, f"{g} * {a}", b.shape)
        return
    rows = g if len(b.shape) > 1 else f"{g}[..., :, None]"
    rows = rows if len(a.shape) > 1 else f"{rows}[..., None, :]"
    left = f"{a}[None, :]" if len(a.shape) == 1 else a
    right = f"{b}[:, None]" if len(b.shape) == 1 else b
    batch = op.shape[: len(op.shape) - (len(a.shape) > 1) - (len(b.shape) > 1)]
    to_a = f"{rows} @ np.swapaxes({right}, -1, -2)"
    to_b = f"np.swapaxes({left}, -1, -2) @ {rows}"
    _back_product(op, a, to_a, batch, first=True)
    _back_product(op, b, to_b, batch, first=False)


def _back_product(op: Op, arg: Arg, text: str, batch: Shape, *, first: bool) -> None:
    if len(arg.shape) > 1:
        op.back(arg, text, (*batch, *arg.shape[-2:]))
    else:
        flat = f"({text})[..., {'0, :' if first else ':, 0'}]"
        op.back(arg, flat, (*batch, *arg.shape))


@rule("outer", "ger")
def _outer(op: Op, input: Arg, other: Arg) -> None:
    op.is_(f"np.outer({input}, {other})")
    op.back(input, f"{op.g} @ {other}", input.shape)
    op.back(other, f"{input} @ {op.g}", other.shape)


@rule("linear")
def _linear(op: Op, input: Arg, weight: Arg, bias: Any = None) -> None:
    if len(weight.shape) != 2:
        raise NoRuleError
    op.is_(f"{input} @ {weight}.T" + (f" + {bias}" if bias is not None else ""))
    flat = f"{op.g}.reshape(-1, {weight.shape[0]})"
    op.back(input, f"{op.g} @ {weight}", input.shape)
    op.back(weight, f"{flat}.T @ {input}.reshape(-1, {weight.shape[1]})", weight.shape)
    op.back(bias, op.g)


@rule("addmm")
def _addmm(op: Op, input: Any, mat1: Arg, mat2: Arg, *, beta: Any = 1, alpha: Any = 1) -> None:
    b, a = literal(beta), literal(alpha)
    op.is_(f"{b} * {input} + {a} * ({mat1} @ {mat2})")
    op.back(input, f"{b} * {op.g}")
    op.back(mat1, f"{a} * ({op.g} @ {mat2}.T)", mat1.shape)
    op.back(mat2, f"{a} * ({mat1}.T @ {op.g})", mat2.shape)


@rule("einsum")
def _einsum(op: Op, equation: str, *given: Any) -> None:
    operands: list[Arg] = [*given[0]] if isinstance(given[0], (list, tuple)) else [*given]
    equation = equation.replace(" ", "")
    sides = equation.split("->")
    inputs = sides[0].split(",")
    letters = "".join(sorted({c for c in sides[0] if sides[0].count(c) == 1 and c.isalpha()}))
    output = sides[1] if len(sides) == 2 else letters
    if "." in equation or any(len(set(i)) < len(i) for i in inputs):
        raise NoRuleError
    op.is_(f"np.einsum('{sides[0]}->{output}', {', '.join(operands)})")
    for k, (mine, operand) in enumerate(zip(inputs, operands, strict=True)):
        others = [i for j, i in enumerate(inputs) if j != k]
        arrays = [a for j, a in enumerate(operands) if j != k]
        if set(mine) - set(output) - set("".join(others)):  # summed over alone: spread out again
            others, arrays = [*others, mine], [*arrays, Arg(f"np.ones_like({operand})")]
        spec = f"{','.join([output, *others])}->{mine}"
        op.back(operand, f"np.einsum('{spec}', {', '.join([op.g, *arrays])})", operand.shape)


# -- linear algebra --------------------------------------------------------------------------------


@rule("cholesky", "linalg_cholesky")
def _cholesky(op: Op, input: Arg, upper: bool = False) -> None:
    if upper or len(input.shape) != 2:
        raise NoRuleError
    op.is_(f"np.linalg.cholesky({input})")
    inner = f"np.tril({op.y}.T @ np.tril({op.g}))"
    half = f"({inner} - np.diag(np.diag({inner})) / 2)"
    inverse = f"np.linalg.inv({op.y})"
    text = f"{inverse}.T @ ({half} + {half}.T) @ {inverse} / 2"
    op.back(input, text, input.shape)


@rule("solve", "linalg_solve")
def _solve(op: Op, A: Arg, B: Arg, **_: Any) -> None:
    if len(A.shape) != 2:
        raise NoRuleError
    op.is_(f"np.linalg.solve({A}, {B})")
    moved = f"np.linalg.solve({A}.T, {op.g})"
    product = f"np.outer({moved}, {op.y})" if len(B.shape) == 1 else f"{moved} @ {op.y}.T"
    op.back(A, f"-{product}", A.shape)
    op.back(B, moved, B.shape)


@rule("inv", "inverse", "linalg_inv")
def _inv(op: Op, input: Arg) -> None:
    if len(input.shape) != 2:
        raise NoRuleError
    op.is_(f"np.linalg.inv({input})")
    op.back(input, f"-{op.y}.T @ {op.g} @ {op.y}.T", input.shape)


@rule("det", "linalg_det")
def _det(op: Op, input: Arg) -> None:
    if len(input.shape) != 2:
        raise NoRuleError
    op.is_(f"np.linalg.det({input})")
    op.back(input, f"{op.g} * {op.y} * np.linalg.inv({input}).T", input.shape)


# -- writes ----------------------------------------------------------------------------------------


@rule("copy", "fill")
def _copy(op: Op, input: Arg, value: Any, *_: Any) -> None:
    op.is_(f"np.broadcast_to({literal(value)}, {op.shape})")
    op.back(value, op.g)


@rule("zero")
def _zero(op: Op, input: Arg) -> None:
    op.is_(f"np.zeros({op.shape})")
