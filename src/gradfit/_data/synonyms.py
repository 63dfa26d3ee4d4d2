"""Arguments as other libraries call them: what is typed out of habit is told its name here."""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

from gradfit._format import shown

P = ParamSpec("P")
R = TypeVar("R")

_ALIKE: Mapping[str, tuple[str, ...]] = {
    "sy": ("sigma", "yerr", "y_err", "dy", "ey", "uy", "err", "error", "errors", "std", "sigma_y"),
    "sx": ("xerr", "x_err", "dx", "ex", "ux", "sigma_x"),
    "start": ("p0", "beta0", "x0", "init", "initial", "guess", "params", "par0"),
    "params": ("beta", "p", "start", "p0"),
    "rho": ("corr", "correlation", "r"),
    "cov": ("covariance", "cov_matrix"),
    "fixed": ("fix", "ifixb", "const", "constants"),
    "fix_x": ("ifixx", "exact_x"),
    "bounds": ("limits", "limit", "lower", "upper"),
    "max_steps": ("maxit", "maxiter", "max_iter", "maxfev", "max_nfev", "niter"),
    "x": ("xdata",),
    "y": ("ydata",),
    "model": ("f", "func", "fn", "fcn", "function", "formula", "model_func"),
    "groups": ("by", "group", "groupby"),
    "data": ("df", "frame", "table"),
    "gtol": ("tol", "sstol", "eps"),
    "level": ("conf", "confidence", "alpha", "cl"),
    "seed": ("random_state", "rng", "random_seed"),
    "nan_policy": ("nan", "missing"),
    "absolute_sigma": ("scale_covar", "relative"),
    "ux": ("sx", "xerr", "dx"),
    "uy": ("sy", "yerr", "dy", "sigma"),
    "loss": ("robust", "f_scale", "norm"),
    "lr": ("learning_rate", "step_size"),
    "epochs": ("n_epochs", "steps", "iterations"),
}
_WEIGHTS = ("weights", "weight", "w", "we")


def understood(fn: Callable[P, R]) -> Callable[P, R]:
    """Let a function say what an argument is called here that it does not know.

    Raises
    ------
    TypeError
        When called: an argument that it has not, with the one that is meant, in one line.
    """
    known = tuple(n for n, p in inspect.signature(fn).parameters.items() if p.kind != p.VAR_KEYWORD)
    names = frozenset(known)

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not names.issuperset(kwargs):
            raise TypeError(_advice(fn.__name__, next(k for k in kwargs if k not in names), known))
        return fn(*args, **kwargs)

    return call


def _advice(function: str, word: str, known: tuple[str, ...]) -> str:
    said = f"{function}() has no argument {shown(word)}"
    if word.lower() in _WEIGHTS and "sy" in known:
        return f"{said}: give standard deviations as `sy`, which are 1/sqrt(weight)."
    meant = [name for name in known if word.lower() in _ALIKE.get(name, ())]
    meant = meant or difflib.get_close_matches(word, known, 1)
    if meant:
        return f"{said}: it is `{meant[0]}` here."
    return f"{said}; its arguments are {', '.join(known)}."
