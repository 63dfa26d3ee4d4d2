"""A fit as one operation of a larger graph: gradients flow through it to its data."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gradfit._fit import fit
from gradfit._model import Model
from gradfit._result import FitResult, FitTable
from gradfit._uncertainty.influence import SOURCES, Response
from gradfit._uncertainty.restate import restate
from gradfit.errors import InputError


class Differentiable(NamedTuple):
    """A fit whose parameters carry gradients.

    Attributes
    ----------
    params : dict of str to Tensor ()
        Parameters, connected to the tensors that the fit was made from.
    fit : FitResult
        Everything else about the fit, without gradients.
    """

    params: dict[str, Tensor]
    fit: FitResult


def differentiable(
    model: Callable[..., Tensor] | str | Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    sx: Any = None,
    sy: Any = None,
    rho: Any = None,
    cov: Any = None,
    **options: Any,
) -> Differentiable:
    r"""Fit a model so that gradients flow from its parameters to data, sigmas and correlations.

    The backward pass differentiates the conditions that the solution fulfils,

    .. math::  \frac{d\beta}{dd} = -H^{-1} \frac{\partial}{\partial d}
               \frac{\partial \chi^2/2}{\partial \beta} ,

    implicitly: it costs one more pass through the model, however many steps the fit took, and is
    exact where the fit has converged.

    Parameters
    ----------
    model, x, y, sx, sy, rho, cov
        As for :func:`gradfit.fit`; those that are tensors and require gradients get them. A joint
        covariance gets its gradient as a symmetric matrix.
    **options
        Anything else that :func:`gradfit.fit` takes, but ``groups``, ``data`` and ``cov_joint``.

    Returns
    -------
    Differentiable
        ``(params, fit)``.

    Raises
    ------
    InputError
        As :func:`gradfit.fit`; ``groups``, ``data`` or ``cov_joint`` is given.

    Notes
    -----
    First derivatives only: differentiating the gradient once more raises an error.

    Examples
    --------
    >>> import torch
    >>> y = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64, requires_grad=True)
    >>> params, _ = differentiable("a + 0*x", torch.arange(4.0), y, sy=1, start={"a": 0})
    >>> params["a"].backward()
    >>> y.grad
    tensor([0.2500, 0.2500, 0.2500, 0.2500], dtype=torch.float64)
    """
    for name in ("groups", "data", "cov_joint"):
        if options.get(name) is not None:
            raise InputError(f"differentiable() takes one fit of tensors; leave `{name}` out.")
    given = dict(zip(SOURCES, (x, y, sx, sy, rho, cov), strict=True))
    tensors = {k: v for k, v in given.items() if isinstance(v, Tensor)}
    others = {k: v for k, v in given.items() if k not in tensors}
    for name, value in others.items():
        if isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value):
            raise InputError(f"`{name}` is a list of tensors: torch.stack(...) keeps its gradient.")
    if not tensors:
        raise InputError(
            f"differentiable() needs a tensor to connect to; got `x` of type {type(x).__name__}."
        )
    question = _Question(model, tuple(tensors), others, options)
    beta = _Solution.apply(question, *tensors.values())
    result = question.result()
    return Differentiable(dict(zip(result.names, beta.unbind(), strict=True)), result)


class _Question:
    """What is fitted, and the answer once there is one."""

    def __init__(
        self,
        model: Any,
        names: tuple[str, ...],
        others: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        self.model = model
        self.names = names
        self.others = others
        self.options = options
        self.answer: FitResult | FitTable | None = None

    def ask(self, tensors: tuple[Tensor, ...]) -> FitResult:
        """Fit the tensors."""
        plain = {k: t.detach() for k, t in zip(self.names, tensors, strict=True)}
        self.answer = fit(self.model, **plain, **self.others, **self.options)
        return self.result()

    def result(self) -> FitResult:
        """Return the fit."""
        if not isinstance(self.answer, FitResult):
            raise InputError("differentiable() takes one fit.")
        return self.answer


class _Solution(torch.autograd.Function):
    """The parameters of a fit as a function of tensors."""

    @staticmethod
    def forward(ctx: Any, question: _Question, *tensors: Tensor) -> Tensor:
        result = question.ask(tensors)
        ctx.question = question
        ctx.like = [(t.shape, t.dtype, t.device) for t in tensors]
        return torch.tensor(list(result.params.values()), dtype=torch.float64, device="cpu").to(
            tensors[0].device
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # type: ignore[override]
        question: _Question = ctx.question
        case = restate(question.result(), "a gradient")
        found = Response(case).backward(grad_outputs[0].detach().cpu())
        data = case.problem.data
        out: list[Tensor | None] = [None]
        wanted = zip(question.names, ctx.like, ctx.needs_input_grad[1:], strict=True)
        for name, (shape, dtype, device), needed in wanted:
            if not needed:
                out.append(None)
                continue
            whole = found[name].new_zeros(*found[name].shape[:-1], data.n_rows)
            whole[..., data.index] = found[name]
            out.append(_folded(name, whole, shape).to(dtype=dtype, device=device))
        return tuple(out)


def _folded(name: str, grad: Tensor, shape: torch.Size) -> Tensor:
    """Sum a gradient (k, N) over what one number stood for, as ``fit`` spreads its arguments."""
    n = grad.shape[-1]
    if name == "cov":
        return grad.permute(2, 0, 1) if len(shape) == 3 else grad.sum(-1)
    if shape == (n,) or len(shape) == 0:
        grad = grad.sum(0)
        return grad if len(shape) else grad.sum()
    if len(shape) == 1:
        return grad.sum(1) if name != "rho" else grad.sum().reshape(shape)
    return grad.sum_to_size(shape)
