"""Rules for losses: how far numbers are from where they should be, as one number."""

from typing import Any

from gradfit.graph.writing import Arg, NoRuleError, Op, rule, shape_of


@rule("mse_loss")
def _mse_loss(op: Op, input: Arg, target: Arg, *_: Any, reduction: str = "mean", **__: Any) -> None:
    difference = f"({input} - {target})"
    _loss(op, input, target, f"{difference} ** 2", f"2 * {difference}", reduction)


@rule("l1_loss")
def _l1_loss(op: Op, input: Arg, target: Arg, *_: Any, reduction: str = "mean", **__: Any) -> None:
    difference = f"({input} - {target})"
    _loss(op, input, target, f"np.abs{difference}", f"np.sign{difference}", reduction)


@rule("huber_loss")
def _huber_loss(
    op: Op, input: Arg, target: Arg, *_: Any, reduction: str = "mean", delta: float = 1.0, **__: Any
) -> None:
    difference, size = f"({input} - {target})", f"np.abs({input} - {target})"
    near, far = f"0.5 * {difference} ** 2", f"{delta} * ({size} - {0.5 * delta})"
    loss = f"np.where({size} < {delta}, {near}, {far})"
    _loss(op, input, target, loss, f"np.clip({difference}, {-delta}, {delta})", reduction)


@rule("smooth_l1_loss")
def _smooth_l1_loss(
    op: Op, input: Arg, target: Arg, *_: Any, reduction: str = "mean", beta: float = 1.0, **__: Any
) -> None:
    difference, size = f"({input} - {target})", f"np.abs({input} - {target})"
    near, far = f"0.5 * {difference} ** 2 / {beta}", f"{size} - {0.5 * beta}"
    slope = f"np.clip({difference} / {beta}, -1, 1)"
    _loss(op, input, target, f"np.where({size} < {beta}, {near}, {far})", slope, reduction)


def _loss(op: Op, input: Arg, target: Arg, text: str, slope: str, reduction: str) -> None:
    if reduction not in ("mean", "sum") or shape_of(input) != shape_of(target):
        raise NoRuleError
    over = f" / {input}.size" if reduction == "mean" else ""
    op.is_(f"np.{reduction}({text})")
    op.back(input, f"{op.g} * {slope}{over}", input.shape)
    op.back(target, f"-{op.g} * {slope}{over}", input.shape)


@rule("cross_entropy")
def _cross_entropy(op: Op, input: Arg, target: Arg, weight: Any = None, **given: Any) -> None:
    plain = {"size_average": None, "reduce": None, "ignore_index": -100, "label_smoothing": 0.0}
    reduction = given.pop("reduction", "mean")
    asked = any(given.get(name, value) != value for name, value in plain.items())
    if len(input.shape) != 2 or len(target.shape) != 1 or weight is not None or asked:
        raise NoRuleError
    if reduction not in ("mean", "sum"):
        raise NoRuleError
    n, k = input.shape
    shifted = f"({input} - np.max({input}, axis=1, keepdims=True))"
    total = f"np.sum(np.exp{shifted}, axis=1, keepdims=True)"
    op.is_(f"-np.{reduction}(({shifted} - np.log({total}))[np.arange({n}), {target}])")
    over = f" / {n}" if reduction == "mean" else ""
    op.back(input, f"{op.g} * (np.exp{shifted} / {total} - np.eye({k})[{target}]){over}", (n, k))
