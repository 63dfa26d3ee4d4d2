"""Peak memory and time of fits as the number of points grows.

    python benchmarks/memory.py [--points N]
    python benchmarks/memory.py --curve

Without ``--curve``: a line through ten million points with errors in both coordinates; exit code 1
if it takes 1 GiB or more. With it: every structure of errors and parameters at growing numbers of
points, and the power of N with which memory and time grow; exit code 1 if one grows faster than
linearly. Measured in processes of their own, beyond the input arrays and the imports; prints JSON.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

LIMIT = 2**30
SIZES = (50_000, 200_000, 800_000)
"""Numbers of points of the curve; the joint covariance of all points is no part of it."""
LINEAR = 1.25
"""Power of N up to which growth is called linear: caches and clocks have their say."""


def peak() -> int:
    """Largest resident size of this process so far, in bytes."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


def child(n: int) -> None:
    """Fit and print the growth of the peak; runs in a fresh process."""
    import numpy as np

    import gradfit as gf

    rng = np.random.default_rng(0)
    x, y, sx, sy = (np.empty(n) for _ in range(4))
    step = 100_000
    for i in range(0, n, step):  # in place, so that making the data leaves no peak of its own
        part = slice(i, min(i + step, n))
        size = part.stop - part.start
        t = rng.uniform(0, 100, size)
        sx[part], sy[part] = rng.uniform(1, 3, (2, size))
        x[part] = t + sx[part] * rng.standard_normal(size)
        y[part] = 2.5 * t + 1 + sy[part] * rng.standard_normal(size)
    gf.line(x[:1000], y[:1000], sx[:1000], sy[:1000])
    before = peak()
    line = gf.line(x, y, sx, sy)
    assert line.success, line.message
    assert abs(line.params["slope"] - 2.5) < 6 * line.stderr["slope"]
    report = {
        "points": n,
        "input_bytes": 4 * x.nbytes,
        "beyond_bytes": peak() - before,
        "seconds": line.seconds,
    }
    print(json.dumps(report))


def explicit(n: int) -> dict[str, Any]:
    """A curve with errors in x and y: what the other structures add to."""
    import numpy as np

    rng = np.random.default_rng(0)
    t = rng.uniform(0, 5, n)
    x = t + 0.02 * rng.standard_normal(n)
    y = 3 * (1 - np.exp(-0.5 * t)) + 0.02 * rng.standard_normal(n)
    start = {"a": 2.5, "b": 0.6}
    return {"model": "a*(1 - exp(-b*x))", "x": x, "y": y, "sx": 0.02, "sy": 0.02, "start": start}


def per_point(n: int) -> dict[str, Any]:
    import numpy as np

    return explicit(n) | {"sx": np.full(n, 0.02), "sy": np.full(n, 0.02), "rho": np.full(n, 0.3)}


def joint(n: int) -> dict[str, Any]:
    import numpy as np

    given = explicit(n)
    cov = np.broadcast_to(4e-4 * np.array([[1, 0.3], [0.3, 1]]), (n, 2, 2)).copy()
    return {k: v for k, v in given.items() if k not in ("sx", "sy")} | {"cov": cov}


def implicit(n: int) -> dict[str, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    t = rng.uniform(0, 2 * np.pi, n)
    points = np.stack([3 * np.cos(t) + 1, 2 * np.sin(t)]) + 0.02 * rng.standard_normal((2, n))
    start = {"u": 0.9, "v": 0.1, "a": 2.8, "b": 2.2}
    formula = "((x[0] - u)/a)**2 + ((x[1] - v)/b)**2 - 1"
    return {"model": formula, "x": points, "sx": 0.02, "start": start}


def systematic(n: int) -> dict[str, Any]:
    return explicit(n) | {"systematic": [{"x": 0.01}, {"y": 0.02}]}


def robust(n: int) -> dict[str, Any]:
    return explicit(n) | {"loss": "huber"}


def bounded(n: int) -> dict[str, Any]:
    return explicit(n) | {"bounds": {"a": (0, 2.9)}}


def grouped(n: int) -> dict[str, Any]:
    import numpy as np

    return explicit(n) | {"groups": np.arange(n) // 50}


def shared(n: int) -> dict[str, Any]:
    return grouped(n) | {"shared": "b"}


def responses(n: int) -> dict[str, Any]:
    import numpy as np
    import torch

    given = explicit(n)

    def model(x: Any, a: Any, b: Any) -> Any:
        rise = 1 - torch.exp(-b * x)
        return torch.stack([a * rise, a * (1 - rise)])

    return given | {"model": model, "y": np.stack([given["y"], 3 - given["y"]])}


STRUCTURES: dict[str, Callable[[int], dict[str, Any]]] = {
    f.__name__: f
    for f in (
        explicit,
        per_point,
        joint,
        implicit,
        systematic,
        robust,
        bounded,
        grouped,
        shared,
        responses,
    )
}


def child_of_structure(name: str, n: int) -> None:
    """Fit three times, and print memory and the best time; runs in a fresh process.

    By machine code at every size where there is any, so that the same is compared.
    """
    import warnings

    import gradfit as gf

    warnings.simplefilter("ignore")
    gf.fit(**STRUCTURES[name](2000), max_steps=STEPS, backend="native")
    given = STRUCTURES[name](n)
    before, seconds, evaluations = peak(), math.inf, 0
    for _ in range(3):
        began = time.process_time()
        fit = gf.fit(**given, max_steps=STEPS, backend="native")
        seconds = min(seconds, time.process_time() - began)
        evaluations = int(getattr(fit.n_eval, "max", lambda fit=fit: fit.n_eval)())
    report = {
        "points": n,
        "beyond_bytes": peak() - before,
        "seconds": seconds,
        "evaluations": evaluations,
    }
    print(json.dumps(report))


STEPS = 30
"""Steps at most; all of these fits end before."""


def measure(n: int, structure: str | None = None) -> dict[str, float]:
    """Run one fit of `n` points in a fresh process and return what it reports."""
    command = [sys.executable, __file__, "--points", str(n), "--child"]
    if structure is not None:
        command += ["--structure", structure]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def growth(sizes: tuple[int, ...], values: list[float]) -> float:
    """Return the power of N with which values grow, by least squares of their logarithms."""
    x, y = [math.log(n) for n in sizes], [math.log(max(v, 1.0)) for v in values]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    upper = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    return upper / sum((a - mx) ** 2 for a in x)


def curve(sizes: tuple[int, ...] = SIZES) -> dict[str, Any]:
    """Measure all structures: memory and time per point at each size, and how they grow."""
    report: dict[str, Any] = {}
    for name in STRUCTURES:
        runs = [measure(n, name) for n in sizes]
        each = [r["seconds"] / r["evaluations"] * 1e9 for r in runs]
        report[name] = {
            "points": sizes,
            "bytes_per_point": [round(r["beyond_bytes"] / r["points"], 1) for r in runs],
            "ns_per_point_and_evaluation": [
                round(t / n, 1) for t, n in zip(each, sizes, strict=True)
            ],
            "memory_grows_as_n_to_the": round(growth(sizes, [r["beyond_bytes"] for r in runs]), 3),
            "time_grows_as_n_to_the": round(growth(sizes, each), 3),
        }
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--structure", choices=STRUCTURES, help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child and options.structure:
        child_of_structure(options.structure, options.points)
        return 0
    if options.child:
        child(options.points)
        return 0
    if options.curve:
        report = curve()
        print(json.dumps(report, indent=2))
        fast = [
            max(v["memory_grows_as_n_to_the"], v["time_grows_as_n_to_the"]) for v in report.values()
        ]
        return int(max(fast) > LINEAR)
    report = measure(options.points)
    print(json.dumps(report))
    return int(report["beyond_bytes"] >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
