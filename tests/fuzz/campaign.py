"""Call the doors, and say what should not have come out of them.

``PYTHONPATH=src:tests python -m fuzz.campaign --calls 100000 [--doors fit,line] [--seed 1]``
prints each finding once, with the arguments of one call that shows it.
"""

import argparse
import math
import re
import time
import traceback
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import gradfit
from fuzz import values
from fuzz.doors import Door, doors
from gradfit.errors import GradfitError, GradfitWarning
from gradfit.lines import LineResult

HOME = str(Path(gradfit.__file__).parent)


@dataclass
class Found:
    """What a campaign came to."""

    calls: int = 0
    seconds: float = 0.0
    by_door: Counter[str] = field(default_factory=Counter[str])
    refused: int = 0
    time_of: Counter[str] = field(default_factory=Counter[str])
    faults: dict[tuple[str, str], list[str]] = field(
        default_factory=lambda: defaultdict[tuple[str, str], list[str]](list)
    )

    def told(self) -> str:
        """Return all findings as text, each with the first calls that show it."""
        lines = [
            f"{self.calls:,} calls, {self.refused:,} refused, {len(self.faults)} kinds of fault, "
            f"{self.calls / max(self.seconds, 1e-9):,.0f} calls a second"
        ]
        for (door, what), examples in sorted(self.faults.items()):
            lines.append(f"{door}: {what}  [{len(examples)}x]  {examples[0]}")
        return "\n".join(lines)


def _short(said: object) -> str:
    """Return the beginning of a message, without what differs from call to call."""
    text = re.sub(r"not .*|got .*|0x[0-9a-f]+|[0-9]+", "..", " ".join(str(said).split()))
    return repr(re.sub(r"'[^']*'", "'..'", text)[:100])


def _where(error: BaseException) -> str:
    """Return the last place in the library that an exception passed."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(HOME)]
    return f"{frames[-1].filename[len(HOME) + 1 :]}:{frames[-1].lineno}" if frames else "outside"


def fault_of(result: Any) -> str | None:
    """Return what is wrong with an answer that calls itself a success."""
    if isinstance(result, tuple) and hasattr(result, "fit"):
        result = result.fit
    success = getattr(result, "success", None)
    params = getattr(result, "params", None)
    if success is None or not isinstance(params, dict):
        return None
    good = np.atleast_1d(np.asarray(success, dtype=bool))
    if not good.any() or not hasattr(result, "stderr"):
        return None
    if isinstance(result, gradfit.FitResult) and params.get("slope") in (math.inf, -math.inf):
        return None  # a vertical line
    vertical = np.isinf(_numbers(params.get("slope", 0.0)))
    for name, value in params.items():
        if not np.isfinite(_numbers(value)[good & ~vertical]).all():
            return f"success, but {name} is not finite"
    for name in ("chi2", "loss"):
        value = getattr(result, name, 0.0)
        if not isinstance(value, str) and not np.isfinite(_numbers(value)[good]).all():
            return f"success, but {name} is not finite"
    if getattr(result, "absolute_sigma", False) and not isinstance(result, LineResult):
        for name, value in result.stderr.items():
            if not np.isfinite(_numbers(value)[good & ~vertical]).all():
                return f"success, but the error of {name} is not finite"
    return None


def _numbers(value: Any) -> Any:
    value = value.detach().cpu().numpy() if hasattr(value, "detach") else value
    return np.atleast_1d(np.asarray(value, dtype=np.float64))


def try_call(name: str, door: Door, rng: Random, found: Found) -> None:
    """Make one call and note what is wrong about it."""
    given, told = door.draw(rng)
    found.calls += 1
    found.by_door[name] += 1
    began = time.perf_counter()
    fault: str | None = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fault = fault_of(door.call(**given))
        except GradfitError as error:
            found.refused += 1
            if "\n" in str(error):
                fault = f"{type(error).__name__} of several lines at {_where(error)}"
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            fault = f"{type(error).__name__} at {_where(error)}: {_short(error)}"
    for warning in caught:
        of_user = warning.filename == values.__file__  # NumPy in a model of ours
        if not (of_user or issubclass(warning.category, GradfitWarning)):
            fault = f"{warning.category.__name__}: {_short(warning.message)}"
    found.time_of[name] += time.perf_counter() - began  # type: ignore[assignment]
    if fault is not None:
        found.faults[name, fault].append(", ".join(told))


def run(calls: int, seed: int = 0, only: tuple[str, ...] = ()) -> Found:
    """Make so many calls, the same for the same seed."""
    known = doors()
    chosen = {k: d for k, d in known.items() if not only or any(fnmatch(k, o) for o in only)}
    names, weights = list(chosen), [d.weight for d in chosen.values()]
    found, began = Found(), time.perf_counter()
    rng = Random(seed)
    np_error = np.seterr(all="warn")
    try:
        for _ in range(calls):
            name = rng.choices(names, weights)[0]
            try_call(name, chosen[name], rng, found)
    finally:
        np.seterr(**np_error)
    found.seconds = time.perf_counter() - began
    return found


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--doors", default="")
    parser.add_argument("--time", action="store_true")
    asked = parser.parse_args()
    found = run(asked.calls, asked.seed, tuple(filter(None, asked.doors.split(","))))
    print(found.told())
    if asked.time:
        for name, seconds in found.time_of.most_common(25):
            n = found.by_door[name]
            print(f"{name:24} {n:6} calls {seconds:7.2f} s {1e3 * seconds / n:8.3f} ms each")


if __name__ == "__main__":
    _main()
