"""Peak memory of a line through ten million points with errors in both coordinates.

    python benchmarks/memory.py [--points N]

Measured in a process of its own, beyond the input arrays and the imports; prints JSON. Exit code 1
if it is 1 GiB or more.
"""

import argparse
import json
import resource
import subprocess
import sys

LIMIT = 2**30


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


def measure(n: int) -> dict[str, float]:
    """Run one fit of `n` points in a fresh process and return what it reports."""
    command = [sys.executable, __file__, "--points", str(n), "--child"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.points)
        return 0
    report = measure(options.points)
    print(json.dumps(report))
    return int(report["beyond_bytes"] >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
