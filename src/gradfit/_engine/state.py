"""What the loop carries from step to step, one row per fit.

A fit alone carries its control as Python numbers, a batch as tensors of one row each; the rules in
:mod:`gradfit._engine.control` read both.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradfit._engine.eliminate import Linear, Sums
from gradfit._engine.field import Field


class Options(NamedTuple):
    """When to stop. Zero switches a test off; rounding error always ends a fit.

    Attributes
    ----------
    gtol : float
        Relative offset, the scale-free gradient.
    ftol : float
        Relative reduction of chi-square, predicted and found.
    xtol : float
        Relative change of every parameter.
    max_steps : int
        Steps taken or refused.
    """

    gtol: float = 1e-11
    ftol: float = 0.0
    xtol: float = 0.0
    max_steps: int = 500


class Bounds(NamedTuple):
    """Lower and upper limits of the parameters, (G, p) or (1, p)."""

    lower: Tensor
    upper: Tensor


class Control(NamedTuple):
    """The numbers that steer a fit: Python's for one fit, tensors (G,) for many.

    Attributes
    ----------
    radius : float
        Radius of the trust region, in scaled parameters; inf at first.
    eta : float
        Relative offset of the last accepted step; inf before.
    flat : float
        Relative offset when chi-square last could not tell; inf before.
    noise : float
        chi-square of rounding error; NaN until asked for.
    newton : bool
        Whether the fit takes Newton steps.
    refused : int
        Steps refused in a row.
    status, n_steps, n_eval : int
    """

    radius: Any
    eta: Any
    flat: Any
    noise: Any
    newton: Any
    refused: Any
    status: Any
    n_steps: Any
    n_eval: Any


class State(NamedTuple):
    """Parameters and sums of every fit, and its control.

    Attributes
    ----------
    beta : Tensor (G, p)
    sums : Sums
        At ``beta``.
    largest : Tensor (G, p + 2), or list of p + 2 floats for one fit
        Largest diagonal of ``sums.gram`` so far.
    control : Control
    """

    beta: Tensor
    sums: Sums
    largest: Any
    control: Control

    @property
    def D(self) -> Tensor:
        """Largest length (G, p) of every Jacobian column so far."""
        if isinstance(self.largest, Tensor):
            return self.largest[:, :-2].sqrt()
        return self.beta.new_tensor([self.largest[:-2]]).sqrt()

    @property
    def status(self) -> Tensor:
        """Status of every fit (G,)."""
        return rows_of(self.control.status, self.beta).to(torch.int64)

    @property
    def n_steps(self) -> Tensor:
        """Steps of every fit (G,), taken or refused."""
        return rows_of(self.control.n_steps, self.beta).to(torch.int64)

    @property
    def n_eval(self) -> Tensor:
        """Evaluations of the model in every fit (G,)."""
        return rows_of(self.control.n_eval, self.beta).to(torch.int64)

    def select(self, rows: Tensor) -> "State":
        """Return the rows listed."""
        return State(
            self.beta[rows],
            Sums(self.sums.gram[rows]),
            self.largest[rows],
            Control(*(t[rows] for t in self.control)),
        )

    def put(self, rows: Tensor, part: "State") -> "State":
        """Return a copy in which ``rows`` are those of ``part``."""

        def write(whole: Tensor, new: Tensor) -> Tensor:
            return whole.index_copy(0, rows, new)

        return State(
            write(self.beta, part.beta),
            Sums(write(self.sums.gram, part.sums.gram)),
            write(self.largest, part.largest),
            Control(*(write(a, b) for a, b in zip(self.control, part.control, strict=True))),
        )


class Work(NamedTuple):
    """A state together with its points and, while they are small, their linearisation."""

    field: Field
    state: State
    u: Tensor
    kept: list[Linear]


def rows_of(value: Any, like: Tensor) -> Tensor:
    """Return control as a tensor (G,), also where one fit carries it as a number."""
    if isinstance(value, Tensor):
        return value
    dtype = like.dtype if isinstance(value, float) else torch.int64
    return torch.tensor([value], dtype=dtype, device=like.device)


def first_control(alone: bool, radius: Any, finite: Any, like: Tensor, bad_start: int) -> Control:
    """Return the control of fits that have not taken a step."""
    if alone:
        status = 0 if finite else bad_start
        return Control(radius, torch.inf, torch.inf, torch.nan, False, 0, status, 0, 1)
    zero = like.new_zeros(like.shape[0])
    count = torch.zeros(like.shape[0], dtype=torch.int64, device=like.device)
    return Control(
        zero + radius,
        zero + torch.inf,
        zero + torch.inf,
        zero + torch.nan,
        zero > 0,
        count,
        torch.where(finite, count, count + bad_start),
        count,
        count + 1,
    )
