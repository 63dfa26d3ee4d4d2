"""What the user believes: a function of x and named parameters, from code, a formula or a name."""

import functools
import inspect
import numbers
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from gradfit import models
from gradfit._formula import Formula
from gradfit._formula_text import read
from gradfit.errors import GradfitError, InputError, ModelError


@dataclass(frozen=True)
class Ties:
    """What holds parameters together of which some follow from others, as of a unit vector.

    The model is zero on the same curve for all parameters that ``settle`` makes the same.

    Attributes
    ----------
    of : tuple of str
        Parameters of which the largest may be held while all curves near by are still reached.
    along : tuple of str
        In the same order, others that are held along with it; empty if there are none.
    settle : callable
        ``settle(params, centre)``: parameters as they are told, from any; ``centre`` (m,) is the
        mean of the points.
    """

    of: tuple[str, ...]
    along: tuple[str, ...]
    settle: Callable[[Sequence[Tensor], Tensor], list[Tensor]]

    def held(self, params: Mapping[str, float]) -> tuple[str, ...]:
        """Return the names of parameters to hold near these values: as many as follow."""
        k = max(range(len(self.of)), key=lambda k: abs(params[self.of[k]]))
        return (self.of[k], *self.along[k : k + 1])


@dataclass(frozen=True, eq=False)
class Model:
    """A function of x and parameters, and what is known about it.

    Attributes
    ----------
    fn : callable
        ``fn(x, *params)`` in torch operations; parameters in the order of ``names``.
    names : tuple of str
        The parameters.
    label : str
        What a summary calls it: the formula, or the name of the function.
    formula : Formula or None
        Where the model came from, if from text.
    n_x : int or None
        Number of x variables, where the formula tells.
    defaults : mapping of str to float
        Start values from the signature.
    x_names : tuple of str
        Names that a formula may use for the variables.
    positive : tuple of str
        Parameters that are positive by convention; a search for start values keeps to it.
    ties : Ties or None
        What holds parameters together, where some follow from others.
    correctable : bool
        Whether what fits it takes ``bias_correction``.
    """

    fn: Callable[..., Tensor]
    names: tuple[str, ...]
    label: str
    formula: Formula | None = None
    n_x: int | None = None
    defaults: Mapping[str, float] = field(default_factory=dict[str, float])
    x_names: tuple[str, ...] = ("x",)
    positive: tuple[str, ...] = ()
    ties: Ties | None = None
    correctable: bool = True

    @property
    def source(self) -> str | None:
        """The text that :func:`as_model` turns into this model again; None for code."""
        if self.formula is not None:
            return self.formula.text
        return (
            self.label if models.known(self.label) and models.get(self.label) is self.fn else None
        )

    def call(self, x: Tensor, params: Sequence[Tensor]) -> Tensor:
        """Return ``fn(x, *params)``; whatever goes wrong in it is told in one line.

        Raises
        ------
        ModelError
            The function raised, or returned no tensor.
        """
        try:
            value = cast(object, self.fn(x, *params))
        except GradfitError:
            raise
        except Exception as e:
            reason = (str(e).strip().splitlines() or ["no message"])[0].rstrip(".")
            if blames_numpy(reason):
                raise ModelError(
                    f"the model {self.label!r} hands tensors to NumPy, which cannot follow its "
                    "graph. Use the torch functions of the same name."
                ) from e
            raise ModelError(
                f"the model {self.label!r} failed with {type(e).__name__}: {reason}."
                f"{_advice(reason)}{order_advice(self)}"
            ) from e
        if not isinstance(value, Tensor):
            raise ModelError(
                f"the model {self.label!r} must return a tensor, got {type(value).__name__}. "
                "Write it in torch operations."
            )
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        if self.source is not None:
            return as_model, (self.source, self.x_names)
        fn = self.fn if _pickles(self.fn) else _Lost(self.label)
        known = self.n_x, dict(self.defaults), self.x_names, self.positive, self.ties
        return Model, (fn, self.names, self.label, None, *known, self.correctable)

    def __deepcopy__(self, memo: Any) -> "Model":
        return self


def as_model(model: Any, x_names: Sequence[str] | None = None, others: Sequence[str] = ()) -> Model:
    """Return a model from a function, a formula, the name of a built-in, or a model.

    Parameters
    ----------
    model : callable, str or Model
        A function ``f(x, a, b, ...)`` names its parameters by its signature; numeric defaults are
        start values; a keyword-only argument with a default is a setting, not a parameter.
        Of a formula all names are parameters that are neither ``x`` nor in ``x_names``.
    x_names : sequence of str, optional
        Names of the variables, one each; ``x`` is always understood.
    others : sequence of str
        Columns that stand beside those of x in the user's table. A formula may not use them: what
        it would mean by them is not a parameter.

    Raises
    ------
    InputError
        Not a model, unknown name, no parameters, a signature that does not name them, or a formula
        that uses one of the ``others``.

    Examples
    --------
    >>> as_model("a*exp(-b*t) + c", x_names=["t"]).names
    ('a', 'b', 'c')
    >>> as_model("line").names
    ('slope', 'intercept')
    >>> as_model(lambda x, a, b=2.0: a * x**b).defaults
    {'b': 2.0}
    """
    if isinstance(model, Model):
        return model
    if isinstance(model, Formula):
        model = model.text
    if isinstance(model, str):
        return _from_text(model, tuple(x_names or ("x",)), tuple(others))
    if isinstance(model, type) or not callable(model):
        raise InputError(
            "the model must be a function f(x, a, b, ...), a formula or the name of a built-in "
            f"model, got {model.__name__ if isinstance(model, type) else type(model).__name__}."
        )
    return _from_callable(model)


@functools.lru_cache(maxsize=256)
def _from_text(text: str, x_names: tuple[str, ...], others: tuple[str, ...]) -> Model:
    name = text.strip()
    if models.known(name):
        return _from_callable(models.get(name))
    formula_names = tuple(n for n in x_names if n.isidentifier())
    if name and read(name).python.isidentifier() and name not in ("x", *x_names):
        close = models.meant(name)
        hint = f" Did you mean {close!r}?" if close else ""
        raise InputError(
            f"there is no built-in model {name!r}, and a formula uses x, as in 'a*x + b'.{hint} "
            f"Known are {', '.join(models.names())}."
        )
    formula = Formula(text, formula_names)
    _refuse_others(formula, x_names, others)
    return _from_formula(formula, x_names)


def _refuse_others(formula: Formula, x_names: tuple[str, ...], others: tuple[str, ...]) -> None:
    """Raise where a formula uses a column that was not given as x."""
    name = next((n for n in formula.names if n in others), None)
    if name is None:
        return
    advice = (
        f"Write {x_names[0]!r} for the variable, or give 'x' as `x`."
        if name == "x"
        else "Give it as `x`, too; if it is a parameter, rename it or give it a start value."
    )
    raise InputError(
        f"the formula {formula.body!r} uses {name!r}, a column of the data that is not given as "
        f"`x` ({', '.join(x_names)}). {advice}"
    )


def _from_formula(formula: Formula, x_names: tuple[str, ...]) -> Model:
    m = len(x_names)
    columns: dict[str, int | None] = {n: i if m > 1 else None for i, n in enumerate(x_names)}
    if m == 1:
        columns["x"] = None
    names = tuple(n for n in formula.names if n not in columns and n != "x")
    _check_variables(formula, x_names, columns)
    if not names:
        raise InputError(f"the formula {formula.body!r} has no parameter to fit.")
    return Model(
        fn=formula.function(("x", *names), columns),
        names=names,
        label=formula.body,
        formula=formula,
        n_x=m,
        x_names=x_names,
    )


def _check_variables(
    formula: Formula, x_names: tuple[str, ...], columns: Mapping[str, int | None]
) -> None:
    """Raise unless the formula uses x, and as many variables of it as there are."""
    m, body = len(x_names), formula.body
    if not any(n in columns or n == "x" for n in formula.names):
        known = " or ".join(dict.fromkeys(("x", *(n for n in x_names if n.isidentifier()))))
        raise InputError(f"the formula {body!r} does not use the data: call them {known}.")
    for name, indices in formula.indexed.items():
        if name != "x":
            raise InputError(f"the formula {body!r} indexes {name!r}; only x has variables.")
        if name in columns:
            raise InputError(f"the formula {body!r} uses x[{indices[0]}], but x is one variable.")
        if max(indices) >= m:
            raise InputError(
                f"the formula {body!r} uses x[{max(indices)}], but there are {m} variables: "
                f"x[0] to x[{m - 1}]."
            )
    if "x" in formula.whole and "x" not in columns:
        ways = [n for n in x_names if n.isidentifier()] or [f"x[{i}]" for i in range(m)]
        raise InputError(
            f"the formula {body!r} uses x, but there are {m} variables: call them "
            f"{', '.join(ways)}."
        )


PER_POINT = (
    " A parameter arrives as one value per point, of shape (N,) like x: beside x[:, None] write "
    "a[:, None], and torch.stack([a, b]) has shape (2, N)."
)
"""What to know of parameters, for whoever takes them for single numbers."""
_ADVICE = {
    "one element tensor": " `math` and float() take one number, and a model computes with tensors: "
    "write torch.exp for math.exp, and so on.",
    "converted to Scalar": " `math` and float() take one number, and a model computes with "
    "tensors: write torch.exp for math.exp, and so on.",
    "Boolean value of Tensor": " `if`, `and`, `min` and `max` take one truth value, and a tensor "
    "has one per point: write torch.where(condition, value, other), torch.minimum, torch.maximum.",
    "must match the size": PER_POINT,
    "equal size": PER_POINT,
    "must match except in dimension": PER_POINT,
    "size mismatch": PER_POINT,
    "shapes cannot be multiplied": PER_POINT,
    "not broadcastable": PER_POINT,
    "inconsistent tensor size": PER_POINT,
    "is invalid for input of size": PER_POINT,
    "is not compatible": PER_POINT,
}
"""What to write instead, by a part of what torch says."""


def _advice(reason: str) -> str:
    return next((told for part, told in _ADVICE.items() if part in reason), "")


def order_advice(model: Model) -> str:
    """Return a remark on the order of arguments where a function seems to take x behind others."""
    if model.formula is not None or not {"x", "X", "xdata", "x_data"}.intersection(model.names):
        return ""
    return (
        " The first argument is the data, each other one a parameter: a model of scipy.odr, "
        "f(B, x), is written f(x, a, b) here."
    )


def blames_numpy(reason: str) -> bool:
    """Return whether NumPy was handed a tensor; torch advises to detach, which cuts the graph."""
    return "numpy" in reason.lower() or "__array__" in reason


def wrong_shape(model: Model, y_names: Sequence[str], shape: tuple[int, ...], n: int) -> ModelError:
    """Return what to raise for a model that gave a tensor of this shape for n points."""
    q, told = len(y_names), ", ".join("N" if k == n else str(k) for k in shape)
    told = f"({told},)" if len(shape) == 1 else f"({told})"
    if q < 2:
        return ModelError(
            f"the model {model.label!r} must return shape (N,), one value per point; it returned "
            f"{told}.{PER_POINT if model.formula is None else ''}{order_advice(model)}"
        )
    advice = " Write a formula for each: 'a*x, b*x' gives two."
    advice = PER_POINT if model.formula is None else advice
    return ModelError(
        f"the model {model.label!r} must return shape ({q}, N), a value per point for each of "
        f"{', '.join(y_names)}; it returned {told}.{advice}"
    )


def _from_callable(fn: Callable[..., Any]) -> Model:
    target = cast(Any, fn).forward if isinstance(cast(object, fn), torch.nn.Module) else fn
    label = _label(fn)
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        raise InputError(
            f"the model {label!r} has no signature that names its parameters. "
            "Wrap it: lambda x, a, b: ..."
        ) from None
    arguments = list(signature.parameters.values())
    keyword = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if not arguments or arguments[0].kind in keyword:
        raise InputError(f"the model {label!r} must take the data as its first argument.")
    parameters = [p for p in arguments[1:] if not _is_setting(p, fn)]
    for p in (arguments[0], *parameters):
        _check_parameter(label, p)
    names = tuple(p.name for p in parameters)
    if not names:
        raise InputError(f"the model {label!r} has no parameter to fit beside its data.")
    by_keyword = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
    return Model(
        fn=_ByKeyword(fn, len(names) - len(by_keyword), by_keyword) if by_keyword else fn,
        names=names,
        label=f"f({', '.join((arguments[0].name, *names))})" if label == "<lambda>" else label,
        positive=models.positive_of(fn),
        defaults={p.name: float(p.default) for p in parameters if p.default is not p.empty},
    )


def _is_setting(p: inspect.Parameter, fn: Callable[..., Any]) -> bool:
    """Return whether an argument is a setting: keyword-only with a default, or bound by partial."""
    if p.kind is not p.KEYWORD_ONLY or p.default is p.empty:
        return False
    if not isinstance(fn, functools.partial):
        return True
    # All arguments behind a bound one become keyword-only; those the user left free are parameters.
    inner = inspect.signature(fn.func).parameters
    return p.name in fn.keywords or p.name not in inner or inner[p.name].kind is p.KEYWORD_ONLY


def _check_parameter(label: str, p: inspect.Parameter) -> None:
    if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
        stars = "*" if p.kind is p.VAR_POSITIONAL else "**"
        raise InputError(
            f"the model {label!r} takes {stars}{p.name}: its parameters have no names. "
            "Name each one, as in f(x, a, b)."
        )
    if p.default is not p.empty and not isinstance(p.default, numbers.Real):
        raise InputError(
            f"the model {label!r} has {p.name}={p.default!r}, which is no number to fit. "
            "Make it keyword-only (behind a *), or bind it with functools.partial."
        )


def _label(fn: Callable[..., Any]) -> str:
    inner = cast(Any, fn)
    while not hasattr(inner, "__name__") and hasattr(inner, "func"):
        inner = inner.func
    return getattr(inner, "__name__", type(inner).__name__)


@dataclass(frozen=True)
class _ByKeyword:
    """Calls a function whose last parameters can only be given by name."""

    fn: Callable[..., Tensor]
    positional: int
    names: tuple[str, ...]

    def __call__(self, x: Tensor, *params: Tensor) -> Tensor:
        given = dict(zip(self.names, params[self.positional :], strict=True))
        return self.fn(x, *params[: self.positional], **given)


@dataclass(frozen=True)
class _Lost:
    """Stands for a function that could not be pickled."""

    label: str

    def __call__(self, *args: Any) -> Tensor:
        raise ModelError(
            f"the model {self.label!r} was lost when its fit was pickled. Define it at the top "
            "level of a module, or give it as a formula."
        )


def _pickles(fn: Callable[..., Any]) -> bool:
    try:
        pickle.dumps(fn)
    except Exception:  # noqa: BLE001 - pickling runs code of the user's objects
        return False
    return True
