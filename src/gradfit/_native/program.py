"""A captured model: its values and derivatives at one point, as scalar expressions."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradfit._native.capture import Recorder
from gradfit._native.differentiate import gradients
from gradfit._native.expression import (
    ALIEN,
    FIRST,
    FREE,
    OTHER,
    CaptureError,
    Pool,
    Term,
    Terms,
    evaluate,
    needed,
)

Function = Callable[[Tensor, Sequence[Tensor]], Tensor]
"""``fn(x, beta)``: x (m, N), p tensors of shape (N,) -> (q, N). Pointwise."""


@dataclass(frozen=True, eq=False)
class Program:
    """What a model computes at one point.

    Attributes
    ----------
    x, beta, nu : tuple of Term
        The m variables, the p parameters, and a multiplier for each response.
    value : tuple of Term
        The q responses.
    """

    x: tuple[Term, ...]
    beta: tuple[Term, ...]
    nu: tuple[Term, ...]
    value: tuple[Term, ...]

    @cached_property
    def first(self) -> tuple[tuple[Term, ...], ...]:
        """The derivatives of each response by x and beta: q rows of ``m + p``."""
        one = self.beta[0].pool.constant(1.0)
        wanted = (*self.x, *self.beta)
        return tuple(tuple(gradients({v: one}, wanted)) for v in self.value)

    @cached_property
    def second(self) -> tuple[Term, ...]:
        """Second derivatives of ``sum_j nu_j f_j`` by x and beta: the upper triangle by rows."""
        wanted = (*self.x, *self.beta)
        seeds: dict[Term, Term] = {}
        for v, nu in zip(self.value, self.nu, strict=True):
            seeds[v] = seeds[v] + nu if v in seeds else nu
        one = self.beta[0].pool.constant(1.0)
        slopes = gradients(seeds, wanted)
        return tuple(h for i, g in enumerate(slopes) for h in gradients({g: one}, wanted[i:]))


@dataclass(frozen=True, eq=False)
class Record:
    """What a model wrote down while it ran on two points.

    Attributes
    ----------
    recorder : Recorder
        Knows the expressions, and what came from elsewhere.
    leaves : list of Tensor
        x (m, 2), and p parameters (2,).
    x, beta : array of Term
        The same as symbols: (m, 2) and (p, 2).
    value : Tensor (q, 2)
        What the model returned.
    outputs : tuple of Term
        Its expressions at the first point.
    foreign : dict of int to Tensor
        Constants that no function was seen to make, by identity.
    """

    recorder: Recorder
    leaves: list[Tensor]
    x: Terms
    beta: Terms
    value: Tensor
    outputs: tuple[Term, ...]
    foreign: dict[int, Tensor]

    @cached_property
    def written(self) -> Hashable:
        """All that was written down: models of which it is equal are the same.

        Constants that the model read are part of it, and what its custom backwards compute.
        """
        pool, terms, found = self.recorder.pool, list(self.outputs), list[tuple[int, int]]()
        if any(t.op == "custom" for t in needed(terms)):
            g = pool.symbol("g", 1.0, FREE)
            for _ in range(2):
                pairs = [pair for t in needed(terms) if t.op == "custom" for pair in t.data.pull(g)]
                found += [(source.index, part.index) for source, part in pairs]
                terms = [part for _, part in pairs]
        keys = tuple(k if k[0] != "custom" else (*k[:-1], k[-1].kind) for k in pool.written)
        return keys, tuple(t.index for t in self.outputs), tuple(found)


def record(fn: Function, x: Any, beta: Any) -> Record:
    """Run a model on two points and write down what it does.

    Parameters
    ----------
    fn : callable
        ``fn(x (m, N), p tensors (N,)) -> (q, N)`` in torch operations.
    x : array-like (m, 2)
        Two points where the model is defined.
    beta : array-like (p, 2)
        Parameters there, not the same at both.

    Raises
    ------
    CaptureError
        It cannot be done; says why.
    """
    pool = Pool()
    recorder = Recorder(pool)
    x, beta = (torch.as_tensor(v, dtype=torch.float64, device="cpu") for v in (x, beta))
    x_terms = _symbols(pool, x.tolist(), "x", (FIRST, OTHER))
    b_terms = _symbols(pool, beta.tolist(), "b", (FREE, ALIEN))
    leaf = _leaf(recorder, x, x_terms)
    params = [_leaf(recorder, row, terms) for row, terms in zip(beta, b_terms, strict=True)]
    with torch.enable_grad():
        value = _run(fn, recorder, leaf, params)
        terms = recorder.terms_of(value)
        if terms is None:
            terms = pool.array(value.detach().numpy())
    outputs = tuple(t.as_float() for t in terms[:, 0])
    foreign = dict(recorder.foreign)
    return Record(recorder, [leaf, *params], x_terms, b_terms, value, outputs, foreign)


def capture(fn: Function, x: Any, beta: Any) -> Program:
    """Write a model down as scalar expressions; arguments as :func:`record` has them."""
    return checked(fn, record(fn, x, beta))


def checked(fn: Function, first: Record) -> Program:
    """Return the program of a record of a model, once it is known to be what torch computes.

    Raises
    ------
    CaptureError
        It is not; says why.
    """
    _check_steady(fn, first)
    if any(t.marks & (OTHER | ALIEN) for t in first.outputs):
        raise CaptureError("it mixes points")
    pool = first.recorder.pool
    program = Program(
        tuple(first.x[:, 0]),
        tuple(first.beta[:, 0]),
        tuple(pool.symbol(f"n{j}", 0.7 + 0.2 * j, FIRST) for j in range(len(first.outputs))),
        first.outputs,
    )
    with torch.enable_grad():
        _check_values(program, first.value, first.leaves[0], first.leaves[1:])
        _check_derivatives(program, first.value, first.leaves)
    # What the engine asks of the model is a few times as long, and no longer.
    pool.most = math.inf
    return program


def _leaf(recorder: Recorder, rows: Tensor, terms: Terms) -> Tensor:
    leaf = rows.detach().clone().requires_grad_()
    recorder.track(leaf, terms)
    return leaf


def _symbols(pool: Pool, numbers: Any, name: str, marks: tuple[int, int]) -> Terms:
    """Return symbols (k, 2) for k numbers at two points."""
    terms = np.empty((len(numbers), 2), dtype=object)
    for i, row in enumerate(numbers):
        terms[i, 0] = pool.symbol(f"{name}{i}", row[0], marks[0])
        terms[i, 1] = pool.symbol(f"{name}{i}_other", row[1], marks[1])
    return terms


def _run(fn: Function, recorder: Recorder, x: Tensor, params: list[Tensor]) -> Tensor:
    try:
        with recorder:
            value = fn(x, params)
    except CaptureError:
        raise
    except Exception as error:
        raise recorder.refusal or CaptureError(
            f"it fails on two points ({type(error).__name__})"
        ) from error
    if recorder.refusal is not None:
        raise recorder.refusal
    if value.ndim != 2 or value.shape[1] != 2 or value.dtype != torch.float64:
        raise CaptureError("it does not return one float64 number per point")
    return value


def _check_steady(fn: Function, first: Record) -> None:
    """Run the model again: it must write down the same, from the same tensors of its own.

    A tensor that is another one each time, and that no function was seen to make, may have been
    made of anything, in code where nobody looks.
    """
    state = torch.get_rng_state()
    second = record(fn, first.leaves[0].detach(), torch.stack(first.leaves[1:]).detach())
    if not torch.equal(state, torch.get_rng_state()):
        raise CaptureError("it draws random numbers")
    if second.written != first.written:
        raise CaptureError("it gives other values when it is called again")
    if not second.foreign.keys() <= first.foreign.keys():
        raise CaptureError("it computes in code that cannot be seen from outside")


def _check_values(program: Program, value: Tensor, x: Tensor, params: list[Tensor]) -> None:
    """Compare with torch at both points: the program is that of the first."""
    want = value.detach().numpy()
    columns = torch.cat([x, *(p[None] for p in params)]).detach().numpy()
    for point in range(2):
        numbers = dict(zip((*program.x, *program.beta), columns[:, point], strict=True))
        _compare("value", want[:, point], evaluate(program.value, numbers))


def _check_derivatives(program: Program, value: Tensor, leaves: list[Tensor]) -> None:
    """Compare first and second derivatives with those of torch at the first point.

    Each is brought to the unit of the value, by the size of its variables: a derivative that
    vanishes is only as small as rounding errors of the value let it be.
    """
    size = np.array([abs(t.number) or 1.0 for t in (*program.x, *program.beta)])
    for j, row in enumerate(program.first):
        found = _slopes(value[j].sum(), leaves)
        scale = abs(float(program.value[j].number))
        _compare("derivative", found * size, size * [t.number for t in row], scale)
    nu = torch.tensor([[t.number] for t in program.nu], dtype=torch.float64, device="cpu")
    field = (value * nu).sum()
    if not field.requires_grad:
        return
    grads = torch.autograd.grad(field, leaves, create_graph=True, materialize_grads=True)
    slopes = torch.stack([row[0] for row in _rows(grads)]).detach().numpy()
    k = len(size)
    whole = np.zeros((k, k))
    whole[np.triu_indices(k)] = [t.number for t in program.second]
    whole = whole + np.triu(whole, 1).T
    weights = np.linspace(0.3, 1.1, k) * size
    along = sum(
        (w * row.sum() for w, row in zip(weights.tolist(), _rows(grads), strict=True)),
        torch.zeros((), dtype=torch.float64, device="cpu"),
    )
    scale = max(np.abs(value[:, 0].detach().numpy()).max(), np.abs(slopes * size).max())
    found = _slopes(along, leaves) * size
    with np.errstate(invalid="ignore"):
        along_weights = whole @ weights * size
    _compare("second derivative", found, along_weights, scale)


def _rows(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [row for t in tensors for row in (t if t.ndim == 2 else t[None])]


def _slopes(total: Tensor, leaves: list[Tensor]) -> Any:
    if not total.requires_grad:
        return np.zeros(sum(len(t) if t.ndim == 2 else 1 for t in leaves))
    try:
        found = torch.autograd.grad(total, leaves, retain_graph=True, materialize_grads=True)
    except RuntimeError as error:
        raise CaptureError("torch cannot differentiate it") from error
    return torch.stack([row[0] for row in _rows(found)]).numpy()


def _compare(what: str, torch_says: Any, program_says: Any, scale: float = 0.0) -> None:
    a, b = np.asarray(torch_says, dtype=float), np.asarray(program_says, dtype=float)
    fine = np.isfinite(a)
    size = max(np.abs(a[fine]).max(initial=0.0), scale if np.isfinite(scale) else 0.0)
    with np.errstate(invalid="ignore"):
        gap = np.abs(a - b)
    if not np.all(gap[fine] <= 1e-6 * np.abs(a[fine]) + 1e-9 * size):
        raise CaptureError(f"the captured {what} is not that of torch")
