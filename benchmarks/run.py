"""Write the figures of `gradfit bench` to files: JSON as measured, and a Markdown table.

    python benchmarks/run.py [--quick] [--json FILE] [--markdown FILE]

The measuring itself is the command's: same points, start and tolerances for gradfit, scipy.odr and
odrpack, answers compared before anything is timed, runs in turn, medians.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def measure(quick: bool) -> dict[str, Any]:
    """Run the command in a fresh process and return what it reports."""
    command = [sys.executable, "-m", "gradfit", "bench", "--json", *(["--quick"] if quick else [])]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def to_markdown(report: dict[str, Any]) -> str:
    """Medians by work and solver; in brackets how many times longer than gradfit."""
    names = list(report["rows"][0]["seconds"])
    lines = ["| work | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in report["rows"]:
        cells = " | ".join(_cell(row, name) for name in names)
        lines.append(f"| {row['work']} | {cells} |")
    facts = ", ".join(f"{name} {value}" for name, value in report["machine"].items() if value)
    note = f"Equal answers and tolerances ({report['tolerance']:g}); medians. {facts}."
    return "\n".join([*lines, "", note, ""])


def _cell(row: dict[str, Any], name: str) -> str:
    if name not in row["seconds"]:
        return ""
    seconds = row["seconds"][name]
    cell = f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
    if name not in row["ratio"]:
        return cell
    ratio = row["ratio"][name]
    return cell + (" (other answer)" if ratio is None else f" ({ratio:.2g}x)")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller tasks, under a minute")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    options = parser.parse_args()
    report = measure(options.quick)
    print(to_markdown(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(to_markdown(report), encoding="utf-8")


if __name__ == "__main__":
    main()
