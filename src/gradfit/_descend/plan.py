"""What was asked, checked, and the stepper that does it."""

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

import torch
from torch import nn

from gradfit._descend.automatic import Automatic
from gradfit._descend.objective import Objective
from gradfit._descend.parameters import Parameters
from gradfit._descend.rules import (
    MakeOptimizer,
    MakeSchedule,
    Plain,
    Rule,
    Scheduled,
    make_optimizer,
    make_schedule,
    needs_closure,
)
from gradfit._descend.steppers import FullBatch, Minibatch, Stepper, Update
from gradfit.errors import InputError


class Plan(NamedTuple):
    """How to step, as asked and checked."""

    lr: float | None
    optimizer: MakeOptimizer
    schedule: MakeSchedule | None
    clip: float | None
    tol: float
    clear: bool
    epochs: int

    @property
    def automatic(self) -> bool:
        """Whether direction and length of each step are found."""
        return self.schedule == "auto"

    @property
    def plain(self) -> bool:
        """Whether a step is ``lr`` times the gradient, no more."""
        return self.optimizer == "sgd" and self.schedule == "constant"


def checked_start(start: Any) -> Mapping[str, Any] | nn.Module:
    """Return ``start`` if it is of a kind that a descent can begin from."""
    if isinstance(start, Mapping | nn.Module):
        return start
    raise InputError(
        f'`start` must be a dict such as {{"a": 0.0}}, or an nn.Module; {type(start).__name__} came'
    )


def whole(name: str, value: Any, least: int) -> int:
    """Return a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"`{name}` must be a whole number of at least {least}; {value!r} came")
    return int(value)


def _positive(name: str, value: float | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < math.inf:
        raise InputError(f"`{name}` must be a positive number; {value!r} came")
    return float(value)


def checked_plan(plan: Plan) -> Plan:
    """Check the settings against each other; without `lr`, plain descent becomes automatic.

    Raises
    ------
    InputError
        A setting is wrong, or two do not go together.
    """
    optimizer, schedule = plan.optimizer, plan.schedule
    optimizer = optimizer.lower() if isinstance(optimizer, str) else optimizer
    if schedule is None:
        schedule = "auto" if plan.lr is None and optimizer == "sgd" and plan.clear else "constant"
    if isinstance(plan.tol, bool) or not 0 <= plan.tol < 1:
        raise InputError(f"`tol` must be a number from 0 to below 1; {plan.tol!r} came")
    plan = plan._replace(
        lr=_positive("lr", plan.lr),
        optimizer=optimizer,
        schedule=schedule,
        clip=_positive("clip", plan.clip),
        epochs=whole("epochs", plan.epochs, 0),
    )
    if plan.automatic:
        _check_automatic(plan)
    elif plan.lr is None and optimizer == "sgd":
        raise InputError('`lr` is needed; give a step size, or `schedule="auto"`, which finds it')
    return plan


def _check_automatic(plan: Plan) -> None:
    if plan.optimizer != "sgd":
        raise InputError(
            '`schedule="auto"` finds direction and length of each step itself; '
            f"leave out `optimizer` ({_name(plan.optimizer)!r} came)"
        )
    if not plan.clear or plan.clip is not None:
        word = "clip" if plan.clear else "clear_grad=False"
        raise InputError(f'`schedule="auto"` cannot go with `{word}`; give `lr` instead')


class Setup(NamedTuple):
    """A stepper, and what to call it."""

    stepper: Stepper
    lr: float
    optimizer: str
    schedule: str

    @property
    def words(self) -> dict[str, str]:
        """What a checkpoint must have in common with the descent that goes on from it."""
        return {"optimizer": self.optimizer, "schedule": self.schedule}


def set_up(objective: Objective, plan: Plan) -> Setup:
    """Make the stepper that a plan asks for."""
    if plan.automatic:
        if objective.batches is not None:
            raise InputError(
                '`schedule="auto"` needs the whole loss at once, not `data` in batches; give `lr`'
            )
        lr = math.nan if plan.lr is None else plan.lr
        return Setup(Automatic(objective, plan.tol, plan.lr), lr, "sgd", "auto")
    rule = _rule(objective.parameters, plan)
    update = Update(objective, rule, plan.clip)
    if objective.batches is None:
        stepper = FullBatch(objective, update, plan.tol, plan.clear)
    else:
        stepper = Minibatch(objective, update, plan.clear)
    optimizer, schedule = _name(plan.optimizer), _name(plan.schedule)
    if isinstance(rule, Scheduled):
        optimizer = optimizer or type(rule.optimizer).__name__
        schedule = schedule or type(rule.schedule).__name__
    return Setup(stepper, rule.lr, optimizer, schedule)


def _rule(parameters: Parameters, plan: Plan) -> Rule:
    if plan.plain and plan.lr is not None:
        return Plain(parameters, plan.lr)
    optimizer = make_optimizer(plan.optimizer, list(parameters), plan.lr)
    if needs_closure(optimizer) and not plan.clear:
        raise InputError(
            f"`clear_grad=False` cannot go with {type(optimizer).__name__}, which evaluates the "
            "loss several times a step"
        )
    return Scheduled(optimizer, make_schedule(plan.schedule, optimizer, plan.epochs))


def _name(asked: Any) -> str:
    """Return the name of an optimizer or a schedule; nothing for a function that makes one."""
    if isinstance(asked, str):
        return asked
    if isinstance(asked, type):
        return asked.__name__
    return type(asked).__name__ if isinstance(asked, torch.optim.Optimizer) else ""
