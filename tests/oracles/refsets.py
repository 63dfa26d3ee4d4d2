"""Published and closed-form reference problems, and what `gradfit.fit` needs to solve them.

One JSON file per problem lies in `refsets/`; the README there says what each key means.
"""

import ast
import inspect
import json
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).parent / "refsets"

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def evaluate(node: ast.AST, env: Mapping[str, Any], functions: ModuleType | Any) -> Any:
    """Evaluate an arithmetic expression; functions come from `functions` (torch, NumPy, mpmath)."""
    match node:
        case ast.Expression(body):
            return evaluate(body, env, functions)
        case ast.Constant(value):
            return value
        case ast.Name("pi"):
            return math.pi if functions in (np, torch) else functions.pi
        case ast.Name(name):
            return env[name]
        case ast.UnaryOp(op, operand):
            return _OPERATORS[type(op)](evaluate(operand, env, functions))
        case ast.BinOp(left, op, right):
            sides = (evaluate(side, env, functions) for side in (left, right))
            return _OPERATORS[type(op)](*sides)
        case ast.Call(ast.Name(name), arguments):
            return _function(functions, name)(*(evaluate(a, env, functions) for a in arguments))
    raise ValueError(f"not plain arithmetic: {ast.dump(node)}")


def _function(functions: Any, name: str) -> Callable[..., Any]:
    if functions is np and name == "atan2":
        # The branch of the reference problems has a positive second argument, and arctan of a
        # quotient takes the complex numbers by which the tiny solver differentiates.
        return lambda y, x: np.arctan(y / x)
    return getattr(functions, name)


@dataclass(frozen=True)
class Formula:
    """The equations of a problem, to be evaluated with any library of functions."""

    lets: tuple[tuple[str, ast.Expression], ...]
    equations: tuple[ast.Expression, ...]
    params: tuple[str, ...]
    n_x: int

    def __call__(self, x: Any, params: Any, functions: Any) -> list[Any]:
        """Values of the equations at `x` (a list of m coordinates) for `params` in order."""
        env = dict(zip(self.params, params, strict=True))
        env |= {"x": x[0]} if self.n_x == 1 else {f"x{k + 1}": v for k, v in enumerate(x)}
        for name, node in self.lets:
            env[name] = evaluate(node, env, functions)
        return [evaluate(node, env, functions) for node in self.equations]

    def model(self) -> Callable[..., torch.Tensor]:
        """The same as a torch model with the parameters in its signature, as a user writes it."""

        def fn(x: torch.Tensor, *params: torch.Tensor) -> torch.Tensor:
            values = self([x] if self.n_x == 1 else list(x), params, torch)
            like = x if self.n_x == 1 else x[0]
            values = [torch.as_tensor(v, dtype=like.dtype).expand_as(like) for v in values]
            return values[0] if len(values) == 1 else torch.stack(values)

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        fn.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, kind) for name in ("x", *self.params)]
        )
        return fn


@dataclass(frozen=True, kw_only=True)
class RefSet:
    """One reference problem. Arrays are float64; `raw` keeps the digits of the file."""

    name: str
    raw: dict[str, Any]
    formula: Formula
    implicit: bool
    x: np.ndarray  # (m, N)
    y: np.ndarray | None  # (q, N); None for an implicit problem
    sx: np.ndarray | float | None
    sy: np.ndarray | float | None
    rho: np.ndarray | None
    cov: np.ndarray | None  # (k, k) or (N, k, k)
    between: dict[str, np.ndarray]  # full covariance over the points, by variable
    fixed: dict[str, float]
    bounds: dict[str, tuple[float, float]]
    at_bound: tuple[str, ...]
    starts: dict[str, dict[str, float]]
    odrpack_misses: tuple[str, ...]
    beta: np.ndarray
    chi2: float
    dof: int
    free: tuple[str, ...]
    foot_x: np.ndarray | None  # (m, N)
    foot_y: np.ndarray | None  # (q, N)

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters in order."""
        return self.formula.params

    @property
    def unique(self) -> bool:
        """Whether the minimum is one point and not a valley."""
        return bool(np.isfinite(self.beta).all())

    def expected(self, key: str) -> np.ndarray | None:
        """A list of expected numbers (`sd_gn`, `cov_gn`, ...) as an array, or None."""
        value = self.raw["expected"].get(key)
        return None if value is None else np.array(value, dtype=float)

    def covariance(self) -> np.ndarray:
        """Joint covariance of (x, y) at every point, (N, k, k): what the keywords below mean."""
        m, n = self.x.shape
        q = 0 if self.y is None else len(self.y)
        if self.cov is not None:
            return np.broadcast_to(self.cov, (n, m + q, m + q))
        sigma = np.zeros((m + q, n))
        sigma[:m] = _per_variable(self.sx, m)
        sigma[m:] = _per_variable(self.sy, q)
        V = np.einsum("in,ij->nij", sigma**2, np.eye(m + q))
        if self.rho is not None:
            V[:, 0, 1] = V[:, 1, 0] = self.rho * sigma[0] * sigma[1]
        return V

    def keywords(self) -> dict[str, Any]:
        """Keyword arguments of `gradfit.fit` beside model and start."""
        squeeze = len(self.x) == 1
        given: dict[str, Any] = {"x": self.x[0] if squeeze else self.x}
        if self.y is not None:
            given["y"] = self.y[0] if len(self.y) == 1 else self.y
        for key in ("sx", "sy", "rho", "cov"):
            if getattr(self, key) is not None:
                given[key] = getattr(self, key)
        if self.fixed:
            given["fixed"] = self.fixed
        if self.bounds:
            given["bounds"] = self.bounds
        return given

    def start(self, name: str) -> dict[str, float]:
        """Start values of the parameters that are not fixed."""
        return {k: v for k, v in self.starts[name].items() if k not in self.fixed}


def _per_variable(sigma: np.ndarray | float | None, rows: int) -> np.ndarray | float:
    value = np.asarray(0.0 if sigma is None else sigma)
    return value[:, None] if value.ndim == 1 and rows > 1 and len(value) == rows else value


def _floats(value: Any) -> Any:
    return None if value is None else np.array(value, dtype=float)


def _sigma(value: Any) -> Any:
    return None if value is None else float(value) if isinstance(value, str) else _floats(value)


@cache
def load(name: str) -> RefSet:
    """Read one reference problem."""
    raw = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    model, errors, foot = raw["model"], raw["errors"], raw.get("foot", {})
    params = tuple(model["params"])
    return RefSet(
        name=name,
        raw=raw,
        formula=Formula(
            lets=tuple((key, ast.parse(text, mode="eval")) for key, text in model["lets"]),
            equations=tuple(ast.parse(text.strip(), mode="eval") for text in model["expr"]),
            params=params,
            n_x=len(raw["data"]["x"]),
        ),
        implicit=model["implicit"],
        x=_floats(raw["data"]["x"]),
        y=_floats(raw["data"]["y"]),
        sx=_sigma(errors.get("sx")),
        sy=_sigma(errors.get("sy")),
        rho=_floats(errors.get("rho")),
        cov=_floats(errors.get("cov")),
        between={k: _floats(v) for k, v in raw.get("errors_between_points", {}).items()},
        fixed={k: float(v) for k, v in raw.get("fixed", {}).items()},
        bounds={k: (float(v[0]), float(v[1])) for k, v in raw.get("bounds", {}).items()},
        at_bound=tuple(raw.get("at_bound", ())),
        starts={
            s["name"]: dict(zip(params, map(float, s["values"]), strict=True))
            for s in raw["starts"]
        },
        odrpack_misses=tuple(raw.get("odrpack_misses", ())),
        beta=_floats([math.nan if b is None else b for b in raw["expected"]["beta"]]),
        chi2=float(raw["expected"]["chi2"]),
        dof=raw["expected"]["dof"],
        free=tuple(raw["expected"]["free"]),
        foot_x=_floats(foot.get("x")),
        foot_y=_floats(foot.get("y")),
    )


@cache
def names() -> tuple[str, ...]:
    """Names of all reference problems."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def explicit() -> list[RefSet]:
    """Problems with one response, errors independent between points, and no bounds."""
    sets = [load(name) for name in names()]
    return [
        s
        for s in sets
        if not s.implicit and len(s.y) == 1 and not s.between and not s.at_bound  # type: ignore[arg-type]
    ]
