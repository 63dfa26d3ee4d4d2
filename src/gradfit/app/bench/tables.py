"""What was measured, as text, as Markdown, and as JSON."""

import json
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradfit.app.bench.measure import SAME, Row
from gradfit.app.bench.peers import TOLERANCE, version
from gradfit.app.bench.problems import SEED

PACKAGES = ("gradfit", "torch", "numpy", "scipy", "odrpack")


def machine() -> dict[str, Any]:
    """Return what the times depend on; None for a package that is not installed."""
    import torch

    facts: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return {**facts, **{package: version(package) for package in PACKAGES}}


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def to_json(rows: Sequence[Row]) -> str:
    """Return everything that was measured."""
    table = [
        {
            "work": row.title,
            "seconds": row.seconds,
            "ratio": {name: row.ratio(name) for name in row.seconds if name not in row.ours},
            "standard errors apart": {
                name: apart if math.isfinite(apart) else None for name, apart in row.apart.items()
            },
            "told from a part": {name: share for name, share in row.shares.items() if share > 1},
        }
        for row in rows
    ]
    report = {"machine": machine(), "seed": SEED, "tolerance": TOLERANCE, "rows": table}
    return json.dumps(report, indent=2, allow_nan=False)


def to_text(rows: Sequence[Row]) -> str:
    """Return a table for a terminal."""
    names, wide = _names(rows), max(len(row.title) for row in rows) + 2
    head = f"{'work':<{wide}}" + "".join(f"{name:>20}" for name in names)
    lines = [head, "-" * len(head)]
    for row in rows:
        cells = "".join(f"{_cell(row, name) or '-':>20}" for name in names)
        lines.append(f"{row.title:<{wide}}{cells}")
    return "\n".join([*lines, "", *_notes(rows), _facts()])


def to_markdown(rows: Sequence[Row]) -> str:
    """Return a table for a page."""
    names = _names(rows)
    lines = ["| work | " + " | ".join(names) + " |", "|---" + "|---:" * len(names) + "|"]
    cells = (" | ".join(_cell(row, name) for name in names) for row in rows)
    lines += [f"| {row.title} | {found} |" for row, found in zip(rows, cells, strict=True)]
    return "\n".join([*lines, "", " ".join(_notes(rows)), "", _facts()])


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.seconds))


def _cell(row: Row, name: str) -> str:
    if name not in row.seconds:
        return ""
    seconds = row.seconds[name]
    unit, scale = ("s", 1.0) if seconds >= 1 else ("ms", 1e3)
    text = f"{seconds * scale:.3g} {unit}" if seconds * scale < 999.5 else f"{seconds:,.0f} {unit}"
    if row.shares[name] > 1:
        text = f"~ {text}"
    if name in row.ours:
        return text
    ratio = row.ratio(name)
    if ratio is None:
        return f"{text} (other answer)"
    return f"{text} ({ratio:.2g}x)" if ratio < 99.5 else f"{text} ({ratio:,.0f}x)"


def _notes(rows: Sequence[Row]) -> list[str]:
    notes = [
        "In brackets: how many times longer than gradfit, for equal answers",
        f"(within {SAME:g} standard errors) and equal tolerances ({TOLERANCE:g}); medians.",
    ]
    if any(share > 1 for row in rows for share in row.shares.values()):
        notes.append("~ told from a part: a loop takes as long for each.")
    return notes


def _facts() -> str:
    return ", ".join(f"{name} {value}" for name, value in machine().items() if value)
