"""Whatever torch is set to, every public door gives the answer that it gives without."""

import json
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit import cli

RNG = np.random.default_rng(5)
X = np.linspace(0.2, 8, 24)
Y = 4 * np.exp(-0.4 * X) + 0.7 + 0.05 * RNG.standard_normal(24)
LINE = 1 + 0.5 * X + 0.1 * RNG.standard_normal(24)
CIRCLE = np.linspace(0, 6, 24)
CIRCLE = np.array([2 + 3 * np.cos(CIRCLE), 1 + 3 * np.sin(CIRCLE)]) + 0.02 * RNG.standard_normal(
    (2, 24)
)
SPACE = RNG.standard_normal((3, 40))
BALL = (5 + 0.02 * RNG.standard_normal(40)) * SPACE / np.linalg.norm(SPACE, axis=0)
PLANE = SPACE * [[1.0], [1.0], [0.01]]
TUBE = np.array([2 * SPACE[0], 2 * SPACE[1]]) / np.hypot(*SPACE[:2])
TUBE = np.array([*TUBE, 3 * SPACE[2]]) + 0.01 * RNG.standard_normal((3, 40))
START = {"a": 3.5, "b": 0.35, "c": 0.6}
DECAY = "a*exp(-b*x) + c"
GIVEN = {"start": START, "sx": 0.05, "sy": 0.05}
IDS = np.repeat([0, 1], 12)


def decay(x, a, b, c):
    return a * torch.exp(-b * x) + c


def ring(x, a, b, r):
    return torch.hypot(x[0] - a, x[1] - b) - r


def leaf(value: float) -> Any:
    return torch.tensor(value, dtype=torch.float64, device="cpu", requires_grad=True)


def loss(a, b):
    return (a - 1) ** 2 + 3 * (b + a) ** 2


def of_fit(**given: Any) -> Any:
    return gf.fit(DECAY, X, Y, **{**GIVEN, **given})


def straight(**given: Any) -> Any:
    return gf.line(X, LINE, 0.1, 0.1, **given)


def gradient() -> Any:
    y = torch.tensor(LINE, device="cpu", requires_grad=True)
    found = gf.differentiable("a + b*x", torch.tensor(X, device="cpu"), y, sy=1, start=[1, 1])
    return [v.item() for v in found.params.values()]


def traced() -> Any:
    graph = gf.trace(loss, leaf(0.5), leaf(0.25))
    return [float(graph["a"].grad), float(graph["b"].grad), len(graph.to_svg()) > 1000]


def descended() -> Any:
    run = gf.descend(loss, {"a": 0.0, "b": 0.5}, lr=0.05, epochs=20)
    return [run.params, run.loss, run.losses, run.landscape() is not None]


def commanded(capsys: Any = None) -> Any:
    from contextlib import redirect_stdout
    from io import StringIO

    out = StringIO()
    with redirect_stdout(out):
        code = cli.main(["graph", "(a*x - y)**2", "--set", "a=0.5", "--set", "x=1.5",
                         "--set", "y=2"])  # fmt: skip
    return [code, "d a" in out.getvalue() or len(out.getvalue()) > 20]


DOORS: dict[str, Callable[[], Any]] = {
    "a formula, eager": lambda: of_fit(backend="eager"),
    "a formula, native": lambda: of_fit(backend="native"),
    "a function": lambda: gf.fit(decay, X, Y, **GIVEN, backend="eager"),
    "no start": lambda: gf.fit(DECAY, X, Y, sy=0.05),
    "a built-in": lambda: gf.fit("decay", X, Y, sy=0.05),
    "implicit": lambda: gf.fit(ring, CIRCLE, start=[2, 1, 3]),
    "groups, eager": lambda: of_fit(groups=IDS, backend="eager"),
    "groups, native": lambda: of_fit(groups=IDS, backend="native"),
    "shared": lambda: of_fit(groups=IDS, shared=["b"]),
    "a joint covariance": lambda: gf.fit(
        DECAY, X, Y, cov=[[0.01, 0.001], [0.001, 0.01]], start=START
    ),
    "a covariance of all": lambda: gf.fit(
        "a + b*x", X, LINE, start=[1, 1], cov_joint=0.01 * np.eye(48)
    ),
    "shared errors": lambda: gf.fit(
        "a + b*x", X, LINE, start=[1, 1], sy=0.1, systematic=[{"y": 0.1}]
    ),
    "robust": lambda: of_fit(loss="huber", backend="eager"),
    "sandwich": lambda: of_fit(cov_type="sandwich"),
    "propagated": lambda: of_fit(cov_type="propagated"),
    "less its bias": lambda: of_fit(bias_correction=True),
    "bounded": lambda: of_fit(bounds={"b": (0.0, 0.36)}),
    "tensors in lists": lambda: gf.fit(
        "a + b*x", [leaf(v) for v in X], [leaf(v) for v in LINE], start=[1, 1], sy=0.1
    ),
    "tensors with gradients": lambda: gf.line(
        torch.tensor(X, device="cpu", requires_grad=True),
        torch.tensor(LINE, device="cpu"),
        0.1,
        0.1,
    ),
    "prediction": lambda: [of_fit().predict([1.0, 2.0]), of_fit().band([1.0, 2.0])],
    "inverse": lambda: straight().invert([3.0], 0.1),
    "profile": lambda: of_fit().interval(method="profile"),
    "bootstrap": lambda: of_fit().bootstrap(10, "parametric", seed=1).interval(),
    "jackknife": lambda: of_fit().jackknife().interval(),
    "influence": lambda: of_fit().influence(),
    "bias": lambda: of_fit().bias,
    "diagnostics": lambda: of_fit().diagnostics(),
    "report": lambda: len(of_fit(backend="eager").report()) > 1000,
    "graph": lambda: len(of_fit().graph().to_svg()),
    "a picture": lambda: of_fit().plot() is not None,
    "line": straight,
    "lines": lambda: straight(groups=IDS),
    "mnr": lambda: gf.mnr("a + b*x", X, LINE, start={"a": 1, "b": 0.5}, sx=0.1, sy=0.1),
    "simulate": lambda: gf.simulate(DECAY, START, X, sx=0.1, sy=0.1),
    "prepare": lambda: gf.prepare(DECAY, **GIVEN)(X, Y).full,
    "differentiable": gradient,
    "trace": traced,
    "descend": descended,
    "sweep_lr": lambda: gf.sweep_lr(loss, {"a": 0.0, "b": 0.5}, epochs=5).losses,
    "command": commanded,
    **{
        name: lambda name=name: getattr(gf.lines, name)(X, LINE)
        for name in ("ols", "inverse_ols", "orthogonal", "theil_sen", "passing_bablok", "deming")
    },
    "wls": lambda: gf.lines.wls(X, LINE, 0.1),
    **{
        name: lambda name=name: getattr(gf.lines, name)(X, LINE, 0.1, 0.1)
        for name in ("york", "isochron", "iso28037", "scatter")
    },
    **{
        name: lambda name=name: getattr(gf.shapes, name)(*CIRCLE)
        for name in ("circle", "ellipse", "conic", "line2d")
    },
    "sphere": lambda: gf.shapes.sphere(*BALL),
    "plane": lambda: gf.shapes.plane(*PLANE),
    "line3d": lambda: gf.shapes.line3d(*PLANE),
    "cylinder": lambda: gf.shapes.cylinder(*TUBE),
    "cone": lambda: gf.shapes.cone(*TUBE),
}


@contextmanager
def default_dtype(kind: torch.dtype) -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(name: str) -> Any:
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic() -> Any:
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=False)


@contextmanager
def everything() -> Any:
    with ExitStack() as stack:
        for each in ("meta", "float16", "inference_mode", "autocast", "deterministic"):
            stack.enter_context(SURROUNDINGS[each]())
        yield


SURROUNDINGS: dict[str, Callable[[], Any]] = {
    "meta": lambda: default_device("meta"),
    "a block on meta": lambda: torch.device("meta"),
    "float16": lambda: default_dtype(torch.float16),
    "float64": lambda: default_dtype(torch.float64),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "deterministic": deterministic,
    "everything": everything,
}

_ANSWERS: dict[str, Any] = {}


def numbers(value: Any) -> Any:
    """Return what is told of an answer, without what differs from run to run."""
    if hasattr(value, "to_json"):
        value = json.loads(value.to_json())
    elif hasattr(value, "to_dict"):
        value = value.to_dict()
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    elif hasattr(value, "__dataclass_fields__"):
        value = {n: getattr(value, n) for n in value.__dataclass_fields__ if n[0] != "_"}
    if isinstance(value, dict):
        return {
            k: numbers(v)
            for k, v in value.items()
            if k not in ("seconds", "message", "n_eval", "backend")
        }
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    if isinstance(value, list | tuple):
        return [numbers(v) for v in value]
    return value


def assert_same(found: Any, wanted: Any, where: str = "") -> None:
    if isinstance(wanted, dict):
        assert list(found) == list(wanted), where
        for k in wanted:
            assert_same(found[k], wanted[k], f"{where}.{k}")
    elif isinstance(wanted, list) and not all(isinstance(v, int | float) for v in wanted):
        assert len(found) == len(wanted), where
        for k, (a, b) in enumerate(zip(found, wanted, strict=True)):
            assert_same(a, b, f"{where}[{k}]")
    elif isinstance(wanted, list | float | np.ndarray) and np.asarray(wanted).dtype.kind == "f":
        np.testing.assert_allclose(found, wanted, 1e-12, 1e-14, err_msg=where)
    else:
        assert np.all(np.asarray(found == wanted)) or type(wanted).__repr__ is object.__repr__, (
            where
        )


@pytest.mark.filterwarnings("ignore::gradfit.errors.GradfitWarning")
@pytest.mark.parametrize(
    "surrounding",
    [pytest.param(s, marks=() if s == "everything" else pytest.mark.slow) for s in SURROUNDINGS],
)
@pytest.mark.parametrize("door", DOORS)
def test_every_door_gives_the_same_answer_in_all_surroundings(door, surrounding):
    if door not in _ANSWERS:
        _ANSWERS[door] = numbers(DOORS[door]())
    with SURROUNDINGS[surrounding]():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.empty(0).device
        answer = DOORS[door]()
        after = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.empty(0).device
    assert before == after
    assert_same(numbers(answer), _ANSWERS[door])


def test_tensors_made_in_inference_mode_are_taken_outside_of_it():
    with torch.inference_mode():
        x, y = torch.tensor(X, device="cpu"), torch.tensor(LINE, device="cpu")
    found = gf.fit("a + b*x", x, y, start=[1, 1], sx=0.1, sy=0.1)
    wanted = gf.fit("a + b*x", X, LINE, start=[1, 1], sx=0.1, sy=0.1)
    assert found.params == pytest.approx(wanted.params, rel=1e-12)
    assert gf.lines.scatter(x, y, 0.1, 0.1).params == gf.lines.scatter(X, LINE, 0.1, 0.1).params
