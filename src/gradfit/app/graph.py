"""``gradfit graph``: the computational graph of a formula, as a table and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gradfit._formula import Formula
from gradfit.app import arguments, files, output, table, tutorial
from gradfit.errors import InputError
from gradfit.graph.trace import trace

DRAWINGS = (".svg", ".html")


def run(
    text: str, settings: Sequence[str], *, data: str | None, out: Path | None, quiet: bool
) -> int:
    """Trace the formula once, print its table, draw it, and return the exit code."""
    if out is not None:
        if out.suffix.lower() not in DRAWINGS:
            raise InputError(f"--out: expected a file .svg or .html, got {str(out)!r}")
        files.check_directory(out.parent, [out.name])
    formula = Formula(text)
    if not formula.names:
        raise InputError(f"the formula {text!r} has no names, so nothing can have a gradient")
    values = _values(formula, arguments.vectors("--set", settings), data, quiet)
    graph = trace(formula.function(formula.names), *values)
    if out is not None:
        draw = graph.to_svg if out.suffix.lower() == ".svg" else graph.to_html
        files.write_files(out.parent, {out.name: draw})
    if not quiet:
        output.show(str(graph.table()))
        for problem in graph.problems():
            output.remark(f"{problem.message}: {problem.remedy}")
        if out is not None:
            output.remark(f"wrote {out}")
    return 0


def _values(
    formula: Formula, given: Mapping[str, float | list[float]], data: str | None, quiet: bool
) -> list[Tensor]:
    """Return a tensor for each name: one number is a parameter with a gradient, many are data."""
    unknown = [name for name in given if name not in formula.names]
    if unknown:
        raise InputError(
            f"--set: the formula has no name {unknown[0]!r}; its names are "
            f"{', '.join(formula.names)}"
        )
    columns = _columns([name for name in formula.names if name not in given], data, quiet)
    values: list[Tensor] = []
    for name in formula.names:
        value = given.get(name)
        if value is None:
            values.append(columns[name])
        else:
            single = not isinstance(value, list)
            values.append(
                torch.tensor(value, dtype=torch.float64, requires_grad=single, device="cpu")
            )
    _check_lengths(dict(zip(formula.names, values, strict=True)))
    return values


def _check_lengths(values: Mapping[str, Tensor]) -> None:
    long = {name: len(value) for name, value in values.items() if value.ndim}
    if len(set(long.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in long.items())
        raise InputError(f"names with several values must have equally many; they have {told}")


def _columns(names: Sequence[str], data: str | None, quiet: bool) -> Mapping[str, Tensor]:
    if not names:
        return {}
    if data is not None:
        source = table.read(data)
        for name in names:
            source.resolve("--data", name)
        return {
            name: torch.from_numpy(source.numbers(name, missing=False).to_numpy().copy())
            for name in names
        }
    if set(names) <= {"x", "y"}:
        if not quiet:
            output.remark(
                f"{' and '.join(names)}: the points of gradfit demo; give --data FILE for yours"
            )
        return dict(zip("xy", map(torch.from_numpy, tutorial.points()), strict=True))
    raise InputError(
        f"no value for {', '.join(names)}; give --set {names[0]}=NUMBER, or --data FILE with "
        "a column of that name"
    )
