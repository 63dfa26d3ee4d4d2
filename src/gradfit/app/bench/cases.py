"""The work that is timed: one fit, many fits, lines, refits, a process that has just begun."""

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradfit._fit import fit
from gradfit._prepare import prepare
from gradfit._types import FloatArray
from gradfit.app.bench.measure import Case, Timed, timed
from gradfit.app.bench.peers import TOLERANCE, One, peers
from gradfit.app.bench.problems import (
    CIRCLE,
    DECAY,
    LINE,
    PAIR,
    SEED,
    SIGMA,
    SURFACE,
    Points,
    Problem,
    simulate,
)
from gradfit.lines.straight import line

LIMITS: dict[str, Any] = {"ftol": TOLERANCE, "xtol": TOLERANCE}
SAMPLE = 1000
"""Fits of a batch that peers do, one by one; their time is told as if they had done all."""
COARSE = 0.15
"""What standard deviations of a thousand refits may differ by: six times what chance makes."""


def cases(*, quick: bool) -> Iterator[Case]:
    """Yield the cases, made when they are asked for: the larger ones take memory."""
    if quick:
        yield one_fit("one fit", DECAY, 20, 10, 10)
        yield one_fit("one fit", DECAY, 1_000, 5, 5)
        yield one_fit("one fit", DECAY, 100_000, 3, 1)
        yield batch(5_000, 20, 3)
        yield lines(10_000, 20, 3)
        return
    yield one_fit("one fit", DECAY, 20, 25, 20)
    yield one_fit("one fit", DECAY, 1_000, 10, 10)
    yield one_fit("one fit", DECAY, 1_000_000, 2, 1)
    yield batch(100_000, 20, 3)
    yield lines(1_000_000, 20, 3)
    yield bootstrap(10_000, 50, 3)
    yield one_fit("two variables", SURFACE, 1_000, 10, 5)
    yield one_fit("two responses", PAIR, 1_000, 10, 5)
    yield one_fit("implicit circle", CIRCLE, 1_000, 10, 5)
    yield cold(3)
    if _has_gpu():
        yield on_gpu(1_000_000, 20, 5)


def one_fit(title: str, problem: Problem, n: int, rounds: int, block: int) -> Case:
    """Fit so many points: with the full result, prepared with what is asked for most, by torch."""
    x, y = simulate(problem, n)
    given: dict[str, Any] = {"start": problem.start, **problem.errors, **LIMITS}
    fitter = prepare(problem.formula, **given)

    def whole(backend: Any = "native") -> FloatArray:
        return _row(fit(problem.formula, x, y, backend=backend, **given).params)

    ours = {
        "gradfit": timed(whole),
        "prepared": timed(lambda: _row(fitter(x, y).params)),
        "eager": timed(lambda: whole("eager")),
    }
    others = {
        name: timed(lambda one=one: np.array([one(x, y)])) for name, one in peers(problem).items()
    }
    errors = np.array(list(fit(problem.formula, x, y, **given).stderr.values()))
    return Case(f"{title}, N = {n:,}", ours, others, errors, rounds, block)


def batch(fits: int, n: int, rounds: int) -> Case:
    """Many fits of the same curve, each of its own points, in one call."""
    points = simulate(DECAY, n, fits)
    groups, x, y = np.repeat(np.arange(fits), n), points.x.ravel(), points.y.ravel()
    given: dict[str, Any] = {"start": DECAY.start, **DECAY.errors, **LIMITS, "groups": groups}

    def whole(backend: Any = "native") -> FloatArray:
        return _rows(fit(DECAY.formula, x, y, backend=backend, **given).params)

    stderr = _rows(fit(DECAY.formula, x, y, **given).stderr)
    return Case(
        f"{fits:,} fits of {n} points",
        {"gradfit": timed(whole), "eager": timed(lambda: whole("eager"))},
        _one_by_one(DECAY, points),
        stderr,
        rounds,
    )


def lines(count: int, n: int, rounds: int) -> Case:
    """Many straight lines with errors in both coordinates at every point."""
    points = simulate(LINE, n, count)
    groups, x, y = np.repeat(np.arange(count), n), points.x.ravel(), points.y.ravel()
    sx, sy = np.full_like(x, SIGMA), np.full_like(y, SIGMA)

    def whole() -> Any:
        return line(x, y, sx, sy, groups=groups, backend="native", **LIMITS)

    def run() -> tuple[float, FloatArray]:
        # What a table of a million lines takes to be taken apart, and away, is not its making.
        began = time.perf_counter()
        found = whole()
        return time.perf_counter() - began, _first_lines(found.params)

    stderr = _first_lines(whole().stderr)
    title = f"{count:,} York lines of {n} points"
    return Case(title, {"gradfit": Timed(run)}, _one_by_one(LINE, points), stderr, rounds)


def bootstrap(refits: int, n: int, rounds: int) -> Case:
    """Refits of resampled pairs. Draws differ, so standard deviations are compared, coarsely."""
    x, y = simulate(DECAY, n)
    found: Any = fit(DECAY.formula, x, y, start=DECAY.start, **DECAY.errors)
    rows = np.random.default_rng(SEED).integers(0, n, (SAMPLE, n))

    def whole() -> FloatArray:
        return _row(found.bootstrap(refits, "pairs", seed=SEED).stderr)

    def refit(one: One) -> FloatArray:
        return np.std([one(x[i], y[i]) for i in rows], axis=0, ddof=1)[None]

    spread = whole()[0]
    others = {
        name: timed(lambda one=one: refit(one), refits / SAMPLE)
        for name, one in peers(DECAY).items()
    }
    title = f"bootstrap, {refits:,} refits of {n} points"
    ours = {"gradfit": timed(whole)}
    return Case(title, ours, others, spread, rounds, same=COARSE)


_COLD = """
import time
import numpy as np
import gradfit as gf
import torch
x = np.linspace(0.0, 8.0, 20)
y = 4.0 * np.exp(-0.4 * x) + 0.7 + 0.05 * np.sin(9.0 * x)
began = time.perf_counter()
fit = gf.fit("a*exp(-b*x) + c", x, y, start=(3.5, 0.35, 0.5), sx=0.05, sy=0.05, backend="native")
print(time.perf_counter() - began, *fit.params.values())
"""


def cold(rounds: int) -> Case:
    """Fit once in a new process whose machine code is on disk; imports are not counted."""

    def first() -> tuple[float, FloatArray]:
        words = subprocess.run(
            [sys.executable, "-c", _COLD], capture_output=True, text=True, check=True
        ).stdout.split()
        return float(words[0]), np.array([list(map(float, words[1:]))])

    # The very first compiles, and leaves its machine code on disk.
    first()
    return Case("first fit of a new process", {"gradfit": Timed(first)}, {}, np.ones(3), rounds)


def _has_gpu() -> bool:
    import torch

    from gradfit._native import cuda

    return torch.cuda.is_available() and cuda.obstacle() is None


def on_gpu(fits: int, n: int, rounds: int) -> Case:
    """Many fits whose points lie on a GPU, where the answers stay."""
    import torch

    points = simulate(DECAY, n, fits)
    x, y = (torch.from_numpy(v.ravel()).cuda() for v in points)
    groups = torch.arange(fits, device="cuda", dtype=torch.int64).repeat_interleave(n)
    given: dict[str, Any] = {"start": DECAY.start, **DECAY.errors, **LIMITS, "groups": groups}

    def whole() -> Any:
        found = fit(DECAY.formula, x, y, backend="cuda", **given)
        torch.cuda.synchronize()
        return found

    def run() -> tuple[float, FloatArray]:
        began = time.perf_counter()
        found = whole()
        return time.perf_counter() - began, _first_rows(found.params)

    stderr = _first_rows(whole().stderr)
    title = f"{fits:,} fits of {n} points, {torch.cuda.get_device_name()}"
    return Case(title, {"gradfit": Timed(run)}, _one_by_one(DECAY, points), stderr, rounds)


def _one_by_one(problem: Problem, points: Points) -> dict[str, Timed]:
    """Return the others, each on some of the fits."""
    count = min(SAMPLE, len(points.x))

    def some(one: One) -> FloatArray:
        return np.array([one(points.x[k], points.y[k]) for k in range(count)])

    share = len(points.x) / count
    return {name: timed(lambda one=one: some(one), share) for name, one in peers(problem).items()}


def _row(params: Any) -> FloatArray:
    return np.array([list(params.values())])


def _first_rows(params: Any) -> FloatArray:
    """Return some rows of what lies on a GPU."""
    return np.stack([values[:SAMPLE].cpu().numpy() for values in params.values()], axis=1)


def _first_lines(params: Any) -> FloatArray:
    """Return some rows, in the order of the peers' parameters."""
    return np.stack([params[n][:SAMPLE] for n in ("intercept", "slope")], axis=1)


def _rows(params: Any) -> FloatArray:
    return np.stack(list(params.values()), axis=1)
