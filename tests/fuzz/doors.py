"""Every public door with a call that works, and what is spoilt about it."""

import contextlib
import copy
import io
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from random import Random
from typing import Any

import numpy as np
import torch

import gradfit as gf
from fuzz import values
from gradfit.cli import main

X = [0.0, 0.9, 1.8, 2.6, 3.3, 4.4]
Y = [5.9, 5.4, 4.4, 4.6, 3.5, 3.7]
CIRCLE_X, CIRCLE_Y = [1.0, 0.02, -0.98, 0.03, 0.72, -0.69], [0.01, 1.03, 0.0, -0.99, 0.7, 0.72]
SPACE = np.random.default_rng(0).normal(size=(3, 12))
START = {"a": 5.0, "b": -0.5}


@dataclass(frozen=True)
class Door:
    """One way in.

    ``base`` is a call that works, ``also`` names the other arguments; both say what each takes.
    """

    call: Callable[..., Any]
    base: Mapping[str, tuple[Any, str]]
    also: Mapping[str, str] = field(default_factory=dict[str, str])
    weight: float = 1.0

    def draw(self, rng: Random) -> tuple[dict[str, Any], list[str]]:
        """Return the arguments of a spoilt call, and what is wrong with it in words."""
        given = {name: value for name, (value, _) in self.base.items()}
        kinds = {name: kind for name, (_, kind) in self.base.items()} | dict(self.also)
        told: list[str] = []
        for name in rng.sample(list(kinds), min(len(kinds), rng.choice((1, 1, 1, 2, 2, 3)))):
            kind = kinds[name]
            if kind == "formula" or (kind == "model" and rng.random() < 0.3):
                given[name] = values.formula(rng)
                told.append(f"{name}={given[name]!r}")
                continue
            pool = values.POOLS.get(kind, values.TEXTS) if rng.random() < 0.8 else values.ANY
            key = rng.choice(list(pool))
            given[name] = pool[key]()
            told.append(f"{name}={key}")
        return given, told


FIT: dict[str, tuple[Any, str]] = {"x": (X, "array"), "y": (Y, "array")}
ERRORS = {"sx": "array", "sy": "array", "rho": "array", "cov": "array"}
RUN = {
    "fixed": "mapping",
    "bounds": "mapping",
    "fix_x": "array",
    "loss": "text",
    "absolute_sigma": "number",
    "max_steps": "number",
    "gtol": "number",
    "ftol": "number",
    "xtol": "number",
}
MORE = {
    "groups": "array",
    "shared": "text",
    "systematic": "mapping",
    "cov_joint": "array",
    "cov_type": "text",
    "bias_correction": "number",
    "nan_policy": "text",
    "backend": "text",
    "device": "text",
    "on_step": "mapping",
    "data": "table",
}


def _prepared(model: Any, x: Any, y: Any, **given: Any) -> Any:
    return gf.prepare(model, **given)(x, y)


@cache
def _fitter() -> Any:
    return gf.prepare("a + b*x", start=START, sy=0.1)


def _descend(start: Any = None, **given: Any) -> Any:
    loss = given.pop("loss")
    return gf.descend(loss, start, **given)


def _loss(a: Any, b: Any) -> Any:
    return (a - 1) ** 2 + (b - 2) ** 2


@cache
def results() -> dict[str, Any]:
    """Return fits of every kind, to ask them questions."""
    ids = [0, 0, 0, 1, 1, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "single": gf.fit("a + b*x", X, Y, start=START, sx=0.1, sy=0.1),
            "torch": gf.fit("a + b*x", torch.tensor(X), torch.tensor(Y), start=START),
            "two": gf.fit("a*x, b*x", X, [X, Y], start=START, sy=0.1),
            "plane": gf.fit("a*x[0] + b*x[1]", [X, Y], Y, start=START, sy=0.1),
            "implicit": gf.fit("x[0]**2 + x[1]**2 - a**2", [CIRCLE_X, CIRCLE_Y], start=[1.0]),
            "robust": gf.fit("a + b*x", X, Y, start=START, sy=0.1, loss="huber"),
            "failed": gf.fit("a + b*x + c*x", X, Y, start=[1, 1, 1], sy=0.1),
            "table": gf.fit("a + b*x", X, Y, start=START, sy=0.1, groups=ids),
            "line": gf.line(X, Y, 0.1, 0.1),
            "mnr": gf.mnr("a + b*x", X, Y, sx=0.05, sy=0.1, start=START),
        }


def _ask(result: str, question: str, /, **given: Any) -> Any:
    return getattr(results()[result], question)(**given)


ASKED: dict[str, tuple[dict[str, tuple[Any, str]], dict[str, str], tuple[str, ...]]] = {
    "predict": ({"x": (1.0, "array")}, {}, ("single", "torch", "two", "plane", "table", "mnr")),
    "band": (
        {"x": ([1.0], "array")},
        {"level": "number", "kind": "text", "sx": "array", "sy": "array"},
        ("single", "torch", "two", "plane", "robust", "implicit"),
    ),
    "interval": ({}, {"level": "number", "method": "text"}, ("single", "torch", "table")),
    "invert": (
        {"y": (4.5, "array")},
        {"sy": "array", "near": "number", "between": "array"},
        ("single", "torch", "robust", "two", "implicit"),
    ),
    "bootstrap": ({"n": (20, "number")}, {"kind": "text", "seed": "number"}, ("single", "failed")),
    "from_dict": ({"fields": ({}, "mapping")}, {}, ("single", "table")),
    "film": ({"path": ([START], "mapping")}, {}, ("single", "implicit")),
    "plot": ({}, {"level": "number", "theme": "text", "ax": "text"}, ("single",)),
}


@cache
def _documents() -> dict[str, tuple[Any, Any]]:
    kinds = ("single", "torch", "two", "implicit", "robust", "table", "failed")
    return {k: (type(results()[k]), json.loads(results()[k].to_json())) for k in kinds}


def damage(document: Any, rng: Random) -> str:
    """Return the text of a document with something in it spoilt."""
    text = json.dumps(document)
    how = rng.random()
    if how < 0.25:  # a byte
        at = rng.randrange(len(text))
        return (
            text[:at] + chr(rng.choice((0, 34, 44, 45, 48, 91, 93, 123, 0xD800))) + text[at + 1 :]
        )
    if how < 0.35:
        return text[: rng.randrange(len(text))]
    spoilt = json.loads(text)
    for _ in range(rng.choice((1, 1, 2))):
        _spoil(spoilt, rng)
    return json.dumps(spoilt)


_WRONG = (
    None,
    "",
    "text",
    -1,
    0,
    1e400,
    True,
    [],
    [None],
    ["a"],
    {},
    {"a": 1},
    [[1], [1, 2]],
    1e300,
)


def _spoil(node: Any, rng: Random) -> None:
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    if not keys:
        return
    key = rng.choice(keys)
    child = node[key]
    if isinstance(child, dict | list) and child and rng.random() < 0.6:
        _spoil(child, rng)
    elif rng.random() < 0.3:
        del node[key]
    else:
        node[key] = copy.deepcopy(rng.choice(_WRONG))


def _read_back(seed: Any) -> Any:
    rng = Random(seed)
    kind = rng.choice(list(_documents()))
    cls, document = _documents()[kind]
    result = cls.from_json(damage(document, rng))
    str(result)
    repr(result)
    return None


COMMANDS = {
    "line": ["line", "-", "--x", "x", "--y", "y"],
    "fit": ["fit", "-", "--x", "x", "--y", "y", "--model", "a + b*x", "--start", "a=5,b=-1"],
    "graph": ["graph", "a*x", "--set", "a=1", "--set", "x=1,2"],
}
_WORDS = [
    *("--sx", "--sy", "--rho", "--start", "--fix", "--bounds", "--group", "--nan", "--relative"),
    *(
        "--json",
        "--quiet",
        "x",
        "y",
        "s",
        "g",
        "0.1",
        "-1",
        "nan",
        "1e400",
        "a=1",
        "a=",
        "=",
        "b=0:",
    ),
    *(
        "a=1,b",
        "\ud800",
        "",
        ",",
        "x,y",
        "omit",
        "\x1b[1m",
        "--",
        "-",
        "--help",
        "--nonsense",
        "a=nan",
    ),
]
_TABLES = [
    b"x,y,s,g\n"
    + b"".join(b"%g,%g,.1,%d\n" % (a, b, i % 2) for i, (a, b) in enumerate(zip(X, Y, strict=True))),
    b"x,y\n1,2\n",
    b"",
    b"x\ty\n1\t2\n2\t3\n4\t5\n",
    b"\xff\xfex\0,\0y\0\n\0",
    b"x,y\n\xff\xfe,\x80\n",
    b"x,y\n" + b"1,2\n" * 3 + b"\0\0\0",
    b"PAR1garbage",
    b'x,y\n"1,2\n3,4\n',
    b"x,y\n1,2,3\n4,5\n",
    b"x;y\n1,5;2,5\n2,5;3,1\n3,5;4,2\n",
    b"x y\n1 2\n2 3.1\n3 4.1\n4 4.9\n",
    b"x,x\n1,2\n",
]


class _Input:
    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def _command(seed: Any) -> Any:
    rng = Random(seed)
    words = list(COMMANDS[rng.choice(list(COMMANDS))])
    for _ in range(rng.randint(0, 4)):
        at = rng.randint(1, len(words))
        words[at : at + (rng.random() < 0.3)] = [rng.choice(_WORDS)]
    if "--out" in words:
        words.remove("--out")
    content = bytearray(rng.choice(_TABLES[:1] * 4 + _TABLES))
    if content and rng.random() < 0.3:
        content[rng.randrange(len(content))] = rng.randrange(256)
    import sys

    stdin, sys.stdin = sys.stdin, _Input(bytes(content))  # type: ignore[assignment]
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
    finally:
        sys.stdin = stdin
    told = err.getvalue()
    if code not in (0, 1, 2):
        raise AssertionError(f"exit code {code} of {words}: {told[-400:]}")
    if code == 2 and (told.count("\n") != 1 or "Traceback" in told):
        raise AssertionError(f"not one line for {words}: {told[-400:]!r}")
    return None


def _seed(call: Callable[[Any], Any], weight: float) -> Door:
    class Seeded(Door):
        def draw(self, rng: Random) -> tuple[dict[str, Any], list[str]]:
            seed = rng.randrange(1 << 48)
            return {"seed": seed}, [f"seed={seed}"]

    return Seeded(call, {}, weight=weight)


def _lines() -> dict[str, Door]:
    plain: dict[str, tuple[Any, str]] = FIT
    both: dict[str, tuple[Any, str]] = FIT | {"sx": (0.1, "array"), "sy": (0.1, "array")}
    level, lines = {"level": "number"}, gf.lines
    return {
        "lines.ols": Door(lines.ols, plain, {}, 3),
        "lines.inverse_ols": Door(lines.inverse_ols, plain, {}, 2),
        "lines.orthogonal": Door(lines.orthogonal, plain, {}, 2),
        "lines.wls": Door(
            lines.wls, plain | {"sy": (0.1, "array")}, {"absolute_sigma": "number"}, 2
        ),
        "lines.york": Door(lines.york, both, {"rho": "array"}, 3),
        "lines.isochron": Door(
            lines.isochron,
            both,
            {"rho": "array", "model": "number", "anchor": "mapping", "omit": "array"}
            | {"dispersion": "text"}
            | level,
            2,
        ),
        "lines.iso28037": Door(
            lines.iso28037,
            plain | {"uy": (0.1, "array")},
            {"ux": "array", "cov_xy": "array", "U": "array"} | level,
            2,
        ),
        "lines.deming": Door(
            lines.deming, plain, {"ratio": "number", "decision_levels": "array"} | level, 2
        ),
        "lines.passing_bablok": Door(
            lines.passing_bablok,
            plain | {"n_resamples": (9, "number")},
            {"decision_levels": "array", "seed": "number"} | level,
            1,
        ),
        "lines.theil_sen": Door(lines.theil_sen, plain, level, 2),
        "lines.scatter": Door(
            lines.scatter,
            both,
            {"rho": "array", "direction": "text", "prior": "text"},
            0.3,
        ),
    }


def _shapes() -> dict[str, Door]:
    flat = {"x": (CIRCLE_X, "array"), "y": (CIRCLE_Y, "array")}
    solid = {k: (v, "array") for k, v in zip("xyz", SPACE, strict=True)}
    errors = {"sx": "array", "sy": "array", "cov": "array", "groups": "array"}
    run = {"data": "table", "nan_policy": "text", "absolute_sigma": "number"} | errors
    doors = {
        f"shapes.{name}": Door(getattr(gf.shapes, name), flat, run, weight)
        for name, weight in (("line2d", 0.3), ("circle", 0.3), ("ellipse", 0.1), ("conic", 0.1))
    }
    for name, weight in (
        ("plane", 0.3),
        ("sphere", 0.2),
        ("line3d", 0.2),
        ("cylinder", 0.05),
        ("cone", 0.05),
    ):
        doors[f"shapes.{name}"] = Door(
            getattr(gf.shapes, name), solid, run | {"sz": "array"}, weight
        )
    return doors


def doors() -> dict[str, Door]:
    """Return every door by name."""
    start = {"start": (START, "mapping")}
    text: dict[str, tuple[Any, str]] = {"model": ("a + b*x", "model")}
    found = {
        "fit": Door(gf.fit, text | FIT | start, ERRORS | RUN | MORE, 30),
        "fit.data": Door(
            gf.fit,
            text
            | {"data": (values.POOLS["table"]["good"](), "table"), "x": ("u", "text")}
            | {"y": ("v", "text")}
            | start,
            {"sx": "text", "sy": "text", "groups": "text", "systematic": "mapping"},
            6,
        ),
        "line": Door(
            gf.line, FIT, ERRORS | {k: MORE[k] for k in ("groups", "nan_policy", "data")}, 6
        ),
        "prepare": Door(_prepared, text | FIT | start, ERRORS | RUN, 4),
        "fitter": Door(lambda **given: _fitter()(**given), FIT, {}, 10),
        "formulas": Door(
            lambda model: gf.prepare(model, start=[1.0]), {"model": ("a*x", "formula")}, {}, 20
        ),
        "simulate": Door(
            gf.simulate,
            text | {"params": (START, "mapping"), "x_true": (X, "array")},
            ERRORS | {"seed": "number"},
            10,
        ),
        "mnr": Door(
            gf.mnr,
            text | FIT | start | {"sx": (0.1, "array"), "sy": (0.1, "array")},
            {"rho": "array", "cov": "array", "data": "table", "fixed": "mapping"},
            0.5,
        ),
        "differentiable": Door(
            gf.differentiable, text | FIT | start, ERRORS | {"groups": "array", "loss": "text"}, 2
        ),
        "descend": Door(
            _descend,
            {"loss": (_loss, "model"), "start": (START, "mapping"), "epochs": (3, "number")},
            {"lr": "number", "optimizer": "text", "schedule": "text", "clip": "number"}
            | {"tol": "number", "patience": "number", "data": "array", "seed": "number"}
            | {"record": "number"},
            1,
        ),
        "sweep_lr": Door(
            lambda loss, start, **given: gf.sweep_lr(loss, start, **given),
            {"loss": (_loss, "model"), "start": (START, "mapping"), "epochs": (3, "number")}
            | {"lrs": ([0.1, 0.2], "array")},
            {},
            0.5,
        ),
        "trace": Door(
            lambda fn, **given: gf.trace(fn, torch.ones(2), **given),
            {"fn": (lambda x: 2 * x, "mapping")},
            {"keep": "number", "max_nodes": "number"},
            3,
        ),
        "models.get": Door(gf.models.get, {"name": ("line", "text")}, {}, 5),
        "models.polynomial": Door(gf.models.polynomial, {"degree": (2, "number")}, {}, 3),
        "datasets": Door(
            lambda name: getattr(gf.datasets, str(name)), {"name": ("x", "text")}, {}, 0
        ),
        "from_json": _seed(_read_back, 8),
        "command": _seed(_command, 0.5),
        **_lines(),
        **_shapes(),
    }
    cheap = {"predict": 8, "band": 2, "interval": 6, "invert": 1, "bootstrap": 0.2, "plot": 0.03}
    for method, (base, also, kinds) in ASKED.items():
        for kind in kinds:
            ask = partial(_ask, kind, method)
            found[f"{kind}.{method}"] = Door(ask, base, also, cheap.get(method, 1) / len(kinds))
    return found
