"""How a step is made from a gradient: any optimizer of torch, any schedule of its step size."""

import inspect
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, Protocol, TypeAlias, cast

import torch
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from gradfit._descend.parameters import Parameters
from gradfit.errors import InputError

Closure = Callable[[], Tensor]
MakeOptimizer: TypeAlias = str | type[Optimizer] | Callable[..., Optimizer] | Optimizer
MakeSchedule: TypeAlias = str | Callable[[Optimizer], LRScheduler]

MOMENTUM = 0.9
STEPS, STEP_FACTOR = 3, 0.1
FINAL_SHARE = 0.01
PLATEAU_PATIENCE, PLATEAU_FACTOR = 10, 0.5


class Rule(Protocol):
    """Turns the gradient in the block into a change of the values."""

    @property
    def lr(self) -> float:
        """Step size of the next update."""
        ...

    @property
    def settles(self) -> bool:
        """Whether a step that changes nothing means that no later one will."""
        ...

    def update(self, closure: Closure) -> None:
        """Change the values once; ``closure`` evaluates loss and gradient where they stand."""
        ...

    def epoch_done(self, loss: float) -> None:
        """Move the schedule on."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what must be kept to go on exactly here."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        ...


class Plain:
    """Gradient descent as written on the blackboard, ``p <- p - lr * gradient``.

    The arithmetic of ``torch.optim.SGD`` without momentum, in one operation for all parameters;
    for small losses torch's own bookkeeping would take as long as the loss itself.
    """

    settles = True

    def __init__(self, parameters: Parameters, lr: float) -> None:
        self.blocks = parameters.blocks
        self.lr = lr

    def update(self, closure: Closure) -> None:
        """Step against the gradient."""
        for block in self.blocks:
            block.values.add_(block.grads, alpha=-self.lr)

    def epoch_done(self, loss: float) -> None:
        """Keep the step size."""

    def state(self) -> dict[str, Any]:
        """Return nothing: the values are the whole state."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Go on."""


class Scheduled:
    """An optimizer of torch and, where one is asked for, its schedule."""

    def __init__(self, optimizer: Optimizer, schedule: LRScheduler | None) -> None:
        self.optimizer = optimizer
        self.schedule = schedule

    @property
    def lr(self) -> float:
        """Step size of the first group of parameters."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def settles(self) -> bool:
        """Whether the optimizer looks for its own step, and found none."""
        return needs_closure(self.optimizer) and self.schedule is None

    def update(self, closure: Closure) -> None:
        """Let the optimizer step."""
        if needs_closure(self.optimizer):
            self.optimizer.step(closure)  # type: ignore[arg-type]
        else:
            self.optimizer.step()

    def epoch_done(self, loss: float) -> None:
        """Move the schedule on."""
        if isinstance(self.schedule, lr_scheduler.ReduceLROnPlateau):
            self.schedule.step(loss)
        elif self.schedule is not None:
            self.schedule.step()

    def state(self) -> dict[str, Any]:
        """Return the state dictionaries of both."""
        schedule = {} if self.schedule is None else self.schedule.state_dict()
        return {"optimizer": self.optimizer.state_dict(), "schedule": schedule}

    def load(self, state: dict[str, Any]) -> None:
        """Load both state dictionaries."""
        self.optimizer.load_state_dict(state["optimizer"])
        # torch casts what an optimizer keeps to the type of its parameter, which rounds on
        # differently from there; put back exactly what was saved.
        held = [p for group in self.optimizer.param_groups for p in group["params"]]
        for index, kept in state["optimizer"]["state"].items():
            self.optimizer.state[held[index]].update(kept)
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether the optimizer evaluates the loss itself, as LBFGS does."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


# -- optimizers ----------------------------------------------------------------------------------


def optimizers() -> dict[str, Callable[..., Optimizer]]:
    """Return every optimizer that has a name: those of torch in small letters, and two of ours."""
    found: dict[str, Callable[..., Optimizer]] = {
        name.lower(): value
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, Optimizer)
    }
    # SparseAdam wants gradients of its own kind; Optimizer is the base of all.
    del found["optimizer"], found["sparseadam"]
    return found | {"momentum": _momentum, "nesterov": _nesterov}


def _momentum(leaves: Iterable[Tensor], lr: float) -> Optimizer:
    return torch.optim.SGD(leaves, lr=lr, momentum=MOMENTUM)


def _nesterov(leaves: Iterable[Tensor], lr: float) -> Optimizer:
    return torch.optim.SGD(leaves, lr=lr, momentum=MOMENTUM, nesterov=True)


def make_optimizer(asked: MakeOptimizer, leaves: list[Tensor], lr: float | None) -> Optimizer:
    """Build the optimizer that was asked for.

    Raises
    ------
    InputError
        An unknown name, a factory that gives no optimizer, or one that refuses the arguments.
    """
    if isinstance(asked, Optimizer):
        return _owned(asked, leaves, lr)
    make = cast("Callable[..., Any]", _named(asked) if isinstance(asked, str) else asked)
    if not callable(make):
        raise InputError(
            "`optimizer` must be a name, a class of torch.optim or a function of the parameters; "
            f"{type(asked).__name__} came"
        )
    if lr is None and _needs_lr(make):
        raise InputError(f'`lr` is needed for `optimizer="{asked}"`; give a step size')
    try:
        optimizer = make(leaves) if lr is None else make(leaves, lr=lr)
    except (TypeError, ValueError) as error:
        hint = "; it is called with the parameters and `lr`" if lr is not None else ""
        raise InputError(f"`optimizer` could not be made: {error}{hint}") from error
    if not isinstance(optimizer, Optimizer):
        raise InputError(
            "`optimizer` must give a torch.optim.Optimizer when called with the parameters; "
            f"{type(optimizer).__name__} came"
        )
    return optimizer


def _named(name: str) -> Callable[..., Optimizer]:
    known = optimizers()
    if name.lower() not in known:
        near = get_close_matches(name.lower(), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise InputError(
            f"`optimizer` {name!r} is unknown{hint} Known are {', '.join(sorted(known))}"
        )
    return known[name.lower()]


def _needs_lr(make: Callable[..., Any]) -> bool:
    return make in (_momentum, _nesterov)


def _owned(optimizer: Optimizer, leaves: list[Tensor], lr: float | None) -> Optimizer:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not held & {id(leaf) for leaf in leaves}:
        raise InputError(
            "`optimizer` holds none of the parameters of `start`; give its class or a function "
            "such as `lambda params: torch.optim.Adam(params)`"
        )
    if lr is not None:
        raise InputError("`lr` cannot be changed in an optimizer that exists already; leave it out")
    return optimizer


# -- schedules -----------------------------------------------------------------------------------


def make_schedule(
    asked: MakeSchedule | None, optimizer: Optimizer, epochs: int
) -> LRScheduler | None:
    """Build the schedule that was asked for; ``None`` for a constant step size.

    Raises
    ------
    InputError
        An unknown name, or a function that gives no scheduler.
    """
    if asked is None or asked == "constant":
        return None
    if isinstance(asked, str):
        return _schedule_named(asked, optimizer, max(epochs, 1))
    if not callable(asked):
        raise InputError(
            f"`schedule` must be a name or a function of the optimizer; {type(asked).__name__} came"
        )
    schedule: Any = asked(optimizer)
    if not isinstance(schedule, LRScheduler):
        raise InputError(
            "`schedule` must give a scheduler of torch.optim.lr_scheduler when called with the "
            f"optimizer; {type(schedule).__name__} came"
        )
    return schedule


def _schedule_named(name: str, optimizer: Optimizer, epochs: int) -> LRScheduler:
    if name == "step":
        return lr_scheduler.StepLR(optimizer, -(-epochs // STEPS), STEP_FACTOR)
    if name == "exponential":
        return lr_scheduler.ExponentialLR(optimizer, FINAL_SHARE ** (1 / epochs))
    if name == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    if name == "plateau":
        return lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=PLATEAU_FACTOR, patience=PLATEAU_PATIENCE
        )
    names = ("auto", "constant", "cosine", "exponential", "plateau", "step")
    near = get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise InputError(f"`schedule` {name!r} is unknown{hint} Known are {', '.join(names)}")
