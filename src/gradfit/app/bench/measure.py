"""Time solvers of one case side by side, once their answers have been compared."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from gradfit._types import FloatArray

SAME = 1e-2
"""Largest difference of answers that count as equal, in standard errors: the finite differences of
the others leave up to half of it."""

Run: TypeAlias = Callable[[], tuple[float, FloatArray]]
"""Does the work; gives the seconds that it took, and its answers, rows of parameters."""


class Timed(NamedTuple):
    """A solver, and how often its work is done in the whole of the case.

    Attributes
    ----------
    run : callable
    share : float
        How many times the work is contained in the case: above 1 for a peer that does a part, whose
        time is told as if it had done all.
    """

    run: Run
    share: float = 1.0


def timed(solve: Callable[[], FloatArray], share: float = 1.0) -> Timed:
    """Return a solver of which every call is timed."""

    def run() -> tuple[float, FloatArray]:
        began = time.perf_counter()
        answers = solve()
        return time.perf_counter() - began, answers

    return Timed(run, share)


class Case(NamedTuple):
    """Work to be timed.

    Attributes
    ----------
    title : str
    ours, peers : mapping of str to Timed
        Solvers by name; ratios are those of peers to the first of ours.
    errors : array (p,) or (K, p)
        Standard errors of the answers, the unit of differences.
    rounds, block : int
        Each round calls each solver so many times in a row; medians are of all calls.
    same : float
        Largest difference of equal answers, in standard errors.
    """

    title: str
    ours: Mapping[str, Timed]
    peers: Mapping[str, Timed]
    errors: FloatArray
    rounds: int = 1
    block: int = 1
    same: float = SAME


class Row(NamedTuple):
    """What was measured: by solver, in seconds and in standard errors."""

    title: str
    ours: tuple[str, ...]
    seconds: Mapping[str, float]
    apart: Mapping[str, float]
    shares: Mapping[str, float]
    same: float

    def ratio(self, name: str) -> float | None:
        """How many times longer a peer takes than gradfit; None where the answers differ."""
        if not self.apart[name] <= self.same:
            return None
        return self.seconds[name] / self.seconds[self.ours[0]]


def measure(case: Case) -> Row:
    """Compare all answers, then time the solvers in turn."""
    solvers, answers = {**case.ours, **case.peers}, dict[str, FloatArray]()
    for name, solver in solvers.items():
        try:
            answers[name] = solver.run()[1]
        except (RuntimeError, TypeError, ValueError):
            # A solver may not do this kind of fit at all.
            if name in case.ours:
                raise
    wanted = answers[next(iter(case.ours))]
    apart = {name: _apart(answer, wanted, case.errors) for name, answer in answers.items()}
    times: dict[str, list[float]] = {name: [] for name in answers}
    for _ in range(case.rounds):
        for name in answers:
            times[name] += [solvers[name].run()[0] for _ in range(case.block)]
    return Row(
        case.title,
        tuple(case.ours),
        {name: statistics.median(t) * solvers[name].share for name, t in times.items()},
        apart,
        {name: solvers[name].share for name in answers},
        case.same,
    )


def _apart(answer: FloatArray, wanted: FloatArray, errors: FloatArray) -> float:
    count = min(len(answer), len(wanted))
    unit = errors if errors.ndim == 1 else errors[:count]
    return float(np.max(np.abs(answer[:count] - wanted[:count]) / unit))
