"""The loss: how it is called, and what its first evaluation must show."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradfit._descend.parameters import Parameters
from gradfit._format import plural
from gradfit._model import blames_numpy
from gradfit.errors import InputError, ModelError, StopFit

Loss = Callable[..., Tensor]
Batches = Iterable[Any]

CAUSES = (
    "Usual causes: a parameter was turned into a number (`.item()`, `float()`, NumPy), detached, "
    "or the loss uses a copy made before the descent"
)


class Point(NamedTuple):
    """One place on the way: the loss there, and its gradient's norm.

    ``row`` holds the values and then the gradients; ``None`` where they are many.
    """

    loss: float
    norm: float
    row: list[float] | None


class Objective:
    """The user's loss as a function of parameters that stand elsewhere.

    Raises
    ------
    InputError
        The signature does not fit the names in ``start``.
    """

    def __init__(self, loss: Loss, parameters: Parameters, batches: Batches | None = None) -> None:
        if not callable(loss):
            raise InputError(f"`loss` must be a function; {type(loss).__name__} came")
        self.loss = loss
        self.parameters = parameters
        self.batches = batches
        self.last = torch.tensor(torch.nan, dtype=torch.float64, device="cpu")
        self.n_eval = 0
        self.eps = 0.0
        leaves = {} if parameters.module is not None else parameters.leaves
        self.positional = names_by_place(loss, tuple(leaves), batches is not None)
        self.args = tuple(leaves[name] for name in self.positional)
        self.kwargs = {name: leaves[name] for name in leaves if name not in self.positional}

    def __call__(self, *batch: Any) -> Tensor:
        """Evaluate the loss, of one batch where there are batches."""
        self.n_eval += 1
        return self.loss(*batch, *self.args, **self.kwargs)

    def begin(self) -> None:
        """Evaluate once to see that the loss is a scalar whose graph reaches the parameters.

        Leaves the gradient as the first ordinary evaluation would.
        """
        for leaf in self.parameters:
            leaf.grad = None
        self.last = checked(self._first())
        try:
            self.last.backward()
        except RuntimeError as error:
            raise ModelError(f"`loss` cannot be differentiated: {one_line(error)}") from error
        self._see_touched()
        kinds = {self.last.dtype, *(leaf.dtype for leaf in self.parameters)}
        self.eps = max(torch.finfo(kind).eps for kind in kinds)

    def _first(self) -> Any:
        batch = () if self.batches is None else (first_batch(self.batches),)
        try:
            return self(*batch)
        except (StopFit, ModelError):
            raise
        except Exception as error:
            if blames_numpy(one_line(error)):
                raise ModelError(
                    "`loss` hands tensors to NumPy, which cannot follow their graph. Make tensors "
                    "of the data with torch.as_tensor, and use the torch functions of that name"
                ) from error
            raise ModelError(
                f"`loss` failed at the start values: {type(error).__name__}: {one_line(error)}"
            ) from error

    def _see_touched(self) -> None:
        """Refuse what the graph never reaches; put gradients where the block expects them."""
        untouched = [name for name, p in self.parameters.leaves.items() if p.grad is None]
        modular = self.parameters.module is not None
        if untouched and (not modular or len(untouched) == len(self.parameters.leaves)):
            raise ModelError(
                f"`loss` never touches {_these(untouched)}: its graph does not lead there. {CAUSES}"
            )
        self.parameters.adopt_gradients()

    def backward(self, *batch: Any) -> Tensor:
        """Evaluate and add the gradient to what is in the block."""
        self.last = value = self(*batch)
        value.backward()
        return value

    def point(self, value: float) -> Point:
        """Return the present place, given the loss there."""
        row = self.parameters.row()
        return Point(value, self.parameters.norm(row), row)

    def by_place(self) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the parameters that can be given by place, in the loss's order, and the others."""
        rest = dict(self.parameters.leaves)
        placed: list[Tensor] = []
        try:
            own = list(inspect.signature(self.loss).parameters.values())
        except (TypeError, ValueError):
            return placed, rest
        for p in own[int(self.batches is not None) :]:
            if p.name not in rest or p.kind is p.KEYWORD_ONLY:
                break
            placed.append(rest.pop(p.name))
        return placed, rest

    def value(self) -> float:
        """Return the loss without its gradient; over all batches, their mean by rows."""
        with torch.no_grad():
            if self.batches is None:
                return self().item()
            total, rows = 0.0, 0
            for batch in self.batches:
                n = rows_of(batch)
                total += n * self(batch).item()
                rows += n
        return total / rows


def names_by_place(loss: Loss, names: tuple[str, ...], takes_batch: bool) -> tuple[str, ...]:
    """Return which parameters ``loss`` takes by place only, in its order.

    Raises
    ------
    InputError
        A name that the loss lacks, or one that it needs and ``start`` lacks.
    """
    try:
        signature = inspect.signature(loss)
    except (TypeError, ValueError):
        return ()
    front = (None,) if takes_batch else ()
    placed = [p.name for p in signature.parameters.values() if p.kind is p.POSITIONAL_ONLY]
    placed = tuple(name for name in placed[len(front) :] if name in names)
    try:
        signature.bind(*front, *placed, **{name: None for name in names if name not in placed})
    except TypeError:
        raise InputError(_mismatch(signature, names, takes_batch)) from None
    return placed


def _mismatch(signature: inspect.Signature, names: tuple[str, ...], takes_batch: bool) -> str:
    written = f"`loss` is loss{signature}"
    if not names:
        wanted = "the batch and nothing else" if takes_batch else "no argument"
        return (
            f"`loss` must take {wanted} when `start` is a module"
            f"{'' if takes_batch else ' and there is no `data`'}; {written}"
        )
    own = list(signature.parameters.values())[int(takes_batch) :]
    own = [p for p in own if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    known = [p.name for p in own]
    missing = [p.name for p in own if p.default is p.empty and p.name not in names]
    unknown = [name for name in names if name not in known]
    wrong = [f"{_these(missing)} is missing"] if missing else []
    if unknown:
        wrong.append(f"{_these(unknown)} is no argument of it{_nearest(unknown, known)}")
    if not wrong:
        wrong = [f"it cannot be called with {_these(list(names))}"]
    after = " after the batch" if takes_batch else ""
    return f"`start` must name the arguments of `loss`{after}: {'; '.join(wrong)}. {written}"


def _nearest(unknown: list[str], named: list[str]) -> str:
    near = get_close_matches(unknown[0], named, n=1)
    return f" (did you mean `{near[0]}`?)" if near else ""


def _these(names: list[str]) -> str:
    quoted = ", ".join(f"`{name}`" for name in names[:6])
    return quoted + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def checked(value: Any) -> Tensor:
    """Refuse what is no differentiable scalar."""
    if not isinstance(value, Tensor):
        raise ModelError(
            f"`loss` must return a torch tensor with one number; {type(value).__name__} came. "
            "Write it in torch operations and do not call `.item()`"
        )
    if value.numel() != 1:
        raise ModelError(
            f"`loss` must return one number; a tensor of shape {tuple(value.shape)} with "
            f"{plural(value.numel(), 'number')} came. Take its `.mean()` or `.sum()`"
        )
    if not value.requires_grad:
        raise ModelError(
            f"`loss` never touches its parameters: what it returned does not require a gradient. "
            f"{CAUSES}"
        )
    return value


def first_batch(batches: Batches) -> Any:
    """Return the first batch.

    Raises
    ------
    InputError
        No batch, or an iterator that can be gone through only once.
    """
    iterator = iter(batches)
    if iterator is batches:
        raise InputError(
            "`data` must be a DataLoader, or a list of batches, that can be gone through again "
            f"every epoch; {type(batches).__name__} can only once"
        )
    for batch in iterator:
        return batch
    raise InputError("`data` holds no batch")


def rows_of(batch: Any) -> int:
    """Count the rows of a batch: the length of the first tensor in it."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    parts: Iterable[Any] = ()
    if isinstance(batch, Mapping):
        parts = batch.values()
    elif isinstance(batch, list | tuple):
        parts = batch
    return next(chain((rows_of(part) for part in parts), [1]))


def one_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return (str(error).strip().splitlines() or ["no message"])[0]
