"""Write a program as Python over a block of points: one assignment per expression.

Points come in blocks of :data:`BLOCK` at most, each variable and each result a row of that length
in one flat array. The distance between rows is a constant of the text, so that the compiler knows
that rows do not overlap and fills vector registers; one call serves a block, so that calling
through a pointer costs nothing. What depends on parameters alone is computed before the loop.
"""

from collections.abc import Iterator, Sequence

from gradfit._native.expression import FIRST, Term, needed
from gradfit._native.operations import OPERATIONS
from gradfit._native.program import Program

BLOCK = 64
"""Points in a block, at most: rows of 512 bytes keep a model of many parameters in cache."""

KINDS = ("value", "first", "second")
"""The functions of a kernel."""


def lower(program: Program, kind: str) -> str:
    """Return the text of one function of the kernel.

    ``value(x, beta, out, n)``
        x has m rows, ``out`` gets q rows: the responses.
    ``first(x, beta, out, n)``
        ``out`` gets q rows of responses, then for each response m rows of derivatives by x, then
        for each response p rows of derivatives by beta.
    ``second(x, beta, nu, out, n)``
        nu has q rows; ``out`` gets the upper triangle, row by row, of the second derivatives of
        ``sum_j nu_j f_j`` by x and beta together.
    """
    m = len(program.x)
    if kind == "value":
        results = program.value
    elif kind == "first":
        by_x = [t for row in program.first for t in row[:m]]
        results = (*program.value, *by_x, *(t for row in program.first for t in row[m:]))
    else:
        results = program.second
    nu = ", nu" if kind == "second" else ""
    lines = [f"def {kind}(x, beta{nu}, out, n):"]
    lines.extend(f"    {line}" for line in _body(program, results))
    return "\n".join(lines) + "\n"


def _body(program: Program, results: Sequence[Term]) -> Iterator[str]:
    names: dict[int, str] = {}
    inputs = {t.index: f"beta[{j}]" for j, t in enumerate(program.beta)}
    for array, rows in (("x", program.x), ("nu", program.nu)):
        inputs.update((t.index, f"{array}[{_at(i)}]") for i, t in enumerate(rows))
    terms = needed(results)
    for inside in (False, True):
        if inside:
            yield "for i in range(n):"
        pad = "    " if inside else ""
        for term in terms:
            if bool(term.marks & FIRST) == inside:
                text = _write(term, names, inputs)
                if text is not None:
                    names[term.index] = f"t{len(names)}"
                    yield f"{pad}{names[term.index]} = {text}"
    for row, term in enumerate(results):
        yield f"    out[{_at(row)}] = {_operand(term, names)}"


def _at(row: int) -> str:
    return f"{BLOCK * row} + i" if row else "i"


def _write(term: Term, names: dict[int, str], inputs: dict[int, str]) -> str | None:
    """Return the text of one expression; None where it needs no assignment."""
    if term.op == "const" or term.op in ("stop", "custom"):
        return None
    if term.op == "symbol":
        return inputs[term.index]
    given = [_operand(a, names) for a in term.args]
    if term.op == "where":
        # A choice between two plain numbers would be Python's, not NumPy's, without compilation.
        given[1:] = [
            f"np.float64({g})" if a.op == "const" and not a.is_bool else g
            for a, g in zip(term.args[1:], given[1:], strict=True)
        ]
    return OPERATIONS[term.op].write(term.data, given)


def _operand(term: Term, names: dict[int, str]) -> str:
    while term.op in ("stop", "custom"):
        term = term.args[0]
    return _constant(term) if term.op == "const" else names[term.index]


def _constant(term: Term) -> str:
    if term.is_bool:
        return str(bool(term.number))
    number = float(term.number)
    if number != number:
        return "np.nan"
    if abs(number) == float("inf"):
        return "np.inf" if number > 0 else "(-np.inf)"
    return repr(number) if str(number)[0] != "-" else f"({number!r})"
