"""What torch's functions of shape do to arrays of scalar expressions, and its sums over an axis."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradfit._native.expression import CaptureError, Term, Terms, lift

Rule = Callable[..., Any]


def as_array(value: Any) -> Any:
    """Return an array of objects, for numbers too."""
    return value if isinstance(value, np.ndarray) else np.asarray(value, dtype=object)


# Shapes -------------------------------------------------------------------------------------------


def _same(a: Terms, *args: Any, **kwargs: Any) -> Terms:
    return a


def _detach(a: Terms) -> Terms:
    return a


def _to(a: Terms, *args: Any, **kwargs: Any) -> Terms:
    return lift(lambda t: t.as_float(), a)


def _shape(given: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(given[0]) if len(given) == 1 and not isinstance(given[0], int) else given


def _reshape(a: Terms, *shape: Any) -> Terms:
    return a.reshape(_shape(shape))


def _expand(a: Terms, *shape: Any) -> Terms:
    sizes = _shape(shape)
    lead = len(sizes) - a.ndim
    full = [a.shape[i - lead] if n == -1 else n for i, n in enumerate(sizes)]
    return np.broadcast_to(a, full)


def _expand_as(a: Terms, other: Any) -> Terms:
    return np.broadcast_to(a, other.shape)


def _unsqueeze(a: Terms, dim: int) -> Terms:
    return np.expand_dims(a, dim)


def _squeeze(a: Terms, dim: Any = None) -> Terms:
    dims = range(a.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    return np.squeeze(a, tuple(d for d in dims if a.shape[d] == 1))


def _flatten(a: Terms, start_dim: int = 0, end_dim: int = -1) -> Terms:
    start, end = start_dim % a.ndim, end_dim % a.ndim
    return a.reshape(*a.shape[:start], -1, *a.shape[end + 1 :])


def _transpose(a: Terms, dim0: int, dim1: int) -> Terms:
    return np.swapaxes(a, dim0, dim1)


def _permute(a: Terms, *dims: Any) -> Terms:
    return np.transpose(a, _shape(dims))


def _matrix_transpose(a: Terms) -> Terms:
    return np.swapaxes(a, -1, -2)


def _stack(tensors: Sequence[Any], dim: int = 0) -> Terms:
    return np.stack(list(map(as_array, tensors)), dim)


def _cat(tensors: Sequence[Any], dim: int = 0) -> Terms:
    return np.concatenate(list(map(as_array, tensors)), dim)


def _vstack(tensors: Sequence[Any]) -> Terms:
    return np.vstack(list(map(as_array, tensors)))


def _unbind(a: Terms, dim: int = 0) -> tuple[Terms, ...]:
    return tuple(np.moveaxis(a, dim, 0))


def _select(a: Terms, dim: int, index: int) -> Terms:
    return np.take(a, index, dim)


def _narrow(a: Terms, dim: int, start: int, length: int) -> Terms:
    return np.take(a, range(start, start + length), dim)


def _index_select(a: Terms, dim: int, index: Any) -> Terms:
    return np.take(a, _index(index), dim)


def _split(a: Terms, split_size_or_sections: Any, dim: int = 0) -> tuple[Terms, ...]:
    n, parts = a.shape[dim], split_size_or_sections
    edges = range(parts, n, parts) if isinstance(parts, int) else np.cumsum(parts)[:-1]
    return tuple(np.split(a, edges, dim))


def _chunk(a: Terms, chunks: int, dim: int = 0) -> tuple[Terms, ...]:
    return _split(a, -(-a.shape[dim] // chunks), dim)


def _flip(a: Terms, *dims: Any) -> Terms:
    return np.flip(a, _shape(dims))


def _roll(a: Terms, shifts: Any, dims: Any = None) -> Terms:
    return np.roll(a, shifts, dims)


def _move(a: Terms, source: Any, destination: Any) -> Terms:
    return np.moveaxis(a, source, destination)


def _index(key: Any) -> Any:
    """Return an index that NumPy understands; one that depends on numbers is refused."""
    if isinstance(key, tuple):
        return tuple(map(_index, key))
    if isinstance(key, np.ndarray) and key.dtype == object:
        terms = [t for t in key.flat if isinstance(t, Term)]
        if any(t.op != "const" for t in terms):
            raise CaptureError("it picks elements by their values")
        numbers = np.array([t.number for t in key.flat]).reshape(key.shape)
        return numbers if numbers.dtype == bool else numbers.astype(np.int64)
    return key


def _getitem(a: Terms, key: Any) -> Terms:
    return as_array(a[_index(key)])


def _setitem(a: Terms, key: Any, value: Any) -> Terms:
    if isinstance(key, np.ndarray) and key.dtype == object and key.flat[0].is_bool:
        if as_array(value).ndim:
            raise CaptureError("it picks elements by their values")
        pick = np.frompyfunc(lambda c, v, old: c.at("where", v, old), 3, 1)
        return pick(key, value, a)
    out = a.copy()
    pool = next(t for t in a.flat).pool
    out[_index(key)] = lift(lambda v: pool.term(v).as_float(), as_array(value))
    return out


# Sums over variables, responses and nodes of a quadrature ----------------------------------------


def _axes(a: Terms, dim: Any) -> tuple[int, ...]:
    if dim is None:
        return tuple(range(a.ndim))
    return tuple(d % a.ndim for d in ((dim,) if isinstance(dim, int) else dim))


def _reduce(a: Terms, dim: Any, keepdim: bool, fn: Callable[[list[Term]], Term]) -> Terms:
    axes = _axes(a, dim)
    rest = [d for d in range(a.ndim) if d not in axes]
    moved = np.transpose(a, (*rest, *axes)).reshape(*(a.shape[d] for d in rest), -1)
    out = np.empty(moved.shape[:-1], dtype=object)
    for at in np.ndindex(out.shape):
        out[at] = fn([t.as_float() for t in moved[at]])
    return np.expand_dims(out, tuple(sorted(axes))) if keepdim else out


def _total(terms: list[Term]) -> Term:
    out = terms[0]
    for t in terms[1:]:
        out = out + t
    return out


def _sum(a: Terms, dim: Any = None, keepdim: bool = False) -> Terms:
    return _reduce(a, dim, keepdim, _total)


def _mean(a: Terms, dim: Any = None, keepdim: bool = False) -> Terms:
    return _reduce(a, dim, keepdim, lambda t: _total(t) / float(len(t)))


def _prod(a: Terms, dim: Any = None, keepdim: bool = False) -> Terms:
    def product(terms: list[Term]) -> Term:
        out = terms[0]
        for t in terms[1:]:
            out = out * t
        return out

    return _reduce(a, dim, keepdim, product)


def _norm(a: Terms, p: Any = None, dim: Any = None, keepdim: bool = False) -> Terms:
    if p not in (None, 2, "fro"):
        raise CaptureError(f"it takes a norm of order {p}")
    return _reduce(a, dim, keepdim, _length)


def _vector_norm(a: Terms, ord: Any = None, dim: Any = None, keepdim: bool = False) -> Terms:
    return _norm(a, ord, dim, keepdim)


def _length(terms: list[Term]) -> Term:
    return _total([t * t for t in terms]).at("norm_root")


def _logsumexp(a: Terms, dim: Any, keepdim: bool = False) -> Terms:
    def fold(terms: list[Term]) -> Term:
        top = terms[0]
        for t in terms[1:]:
            top = top.at("maximum", t)
        top = top.at("abs").at("eq", math.inf).at("where", 0.0, top).at("stop")
        return _total([(t - top).at("exp") for t in terms]).at("log") + top

    return _reduce(a, dim, keepdim, fold)


def _cumsum(a: Terms, dim: int) -> Terms:
    return np.cumsum(lift(lambda t: t.as_float(), a), dim)


def _matmul(a: Any, b: Any) -> Terms:
    return as_array(np.matmul(as_array(a), as_array(b)))


def _dot(a: Any, b: Any) -> Terms:
    return as_array(np.dot(as_array(a), as_array(b)))


def _einsum(equation: str, *operands: Any) -> Terms:
    given = operands[0] if isinstance(operands[0], (tuple, list)) else operands
    return as_array(np.einsum(equation, *map(as_array, given)))


def _trapezoid(y: Terms, x: Any = None, *, dx: Any = None, dim: int = -1) -> Terms:
    y = np.moveaxis(y, dim, -1)
    if x is not None:
        x = as_array(x)
        widths = np.diff(x if x.ndim < 2 else np.moveaxis(x, dim, -1))
        return _sum((y[..., 1:] + y[..., :-1]) * widths, -1) / 2.0
    inner = _sum(y[..., 1:-1], -1) if y.shape[-1] > 2 else 0.0
    return ((y[..., 0] + y[..., -1]) * 0.5 + inner) * (1.0 if dx is None else dx)


def _outer(a: Any, b: Any) -> Terms:
    return as_array(a)[:, None] * as_array(b)[None, :]


def _linear(a: Terms, weight: Any, bias: Any = None) -> Terms:
    out = _matmul(a, np.swapaxes(as_array(weight), -1, -2) if as_array(weight).ndim > 1 else weight)
    return out if bias is None else out + as_array(bias)


# New tensors that take shape or kind from another ------------------------------------------------


def _filled(value: float) -> Rule:
    def rule(a: Terms, **kwargs: Any) -> Terms:
        pool = next(iter(a.flat)).pool
        return lift(lambda t: pool.constant(value), a)

    return rule


def _full_like(a: Terms, fill_value: Any, **kwargs: Any) -> Terms:
    pool = next(iter(a.flat)).pool
    fill = as_array(fill_value).reshape(-1)[0]
    return lift(lambda t: pool.term(fill).as_float(), a)


ARRAY_RULES: dict[str, Rule] = {
    **dict.fromkeys(("positive", "__pos__", "clone", "contiguous"), _same),
    "detach": _detach,
    **dict.fromkeys(
        ("to", "double", "float", "int", "long", "type", "type_as", "as_tensor", "asarray"), _to
    ),
    **dict.fromkeys(("reshape", "view"), _reshape),
    "expand": _expand,
    "expand_as": _expand_as,
    "broadcast_to": _expand,
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    **dict.fromkeys(("flatten", "ravel"), _flatten),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), _transpose),
    "permute": _permute,
    **dict.fromkeys(("t", "T", "mT"), _matrix_transpose),
    "stack": _stack,
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    "vstack": _vstack,
    **dict.fromkeys(("unbind", "__iter__"), _unbind),
    "select": _select,
    "index_select": _index_select,
    "split": _split,
    "chunk": _chunk,
    "flip": _flip,
    "roll": _roll,
    **dict.fromkeys(("movedim", "moveaxis"), _move),
    "narrow": _narrow,
    "__getitem__": _getitem,
    "__setitem__": _setitem,
    "sum": _sum,
    "mean": _mean,
    "prod": _prod,
    "norm": _norm,
    **dict.fromkeys(("linalg_norm", "linalg_vector_norm"), _vector_norm),
    **dict.fromkeys(("logsumexp", "special_logsumexp"), _logsumexp),
    "cumsum": _cumsum,
    **dict.fromkeys(("matmul", "__matmul__", "mm", "mv", "bmm"), _matmul),
    "__rmatmul__": lambda a, b: _matmul(b, a),
    **dict.fromkeys(("dot", "inner", "linalg_vecdot"), _dot),
    "einsum": _einsum,
    **dict.fromkeys(("trapezoid", "trapz"), _trapezoid),
    **dict.fromkeys(("outer", "ger"), _outer),
    "linear": _linear,
    **dict.fromkeys(("zeros_like", "zero_"), _filled(0.0)),
    "ones_like": _filled(1.0),
    "full_like": _full_like,
    "fill_": _full_like,
    "copy_": lambda a, b, non_blocking=False: np.broadcast_to(as_array(b), a.shape),
}
"""Rules by the name of the function."""
