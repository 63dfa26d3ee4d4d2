"""Numbers to text: values with errors as the Particle Data Group rounds them, and plain tables.

Nothing here knows what a fit is.
"""

import math
import re
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np

DIGITS = 15
"""Significant digits that a double holds for sure; more would be noise."""
_BREAK = re.compile(r"(?<=[\s,])(?=\S)(?<![-+*/=] )|(?<=[\w)\]])(?<!\d[eE])(?=\s*[-+*/])")
PLAIN = range(-4, 7)
"""Powers of ten that are written out; others get an exponent."""


def measured(value: float, error: float) -> str:
    """Write a value and its standard error, rounded as the Particle Data Group does.

    If the three leading digits of the error lie between 100 and 354, it keeps two digits; between
    355 and 949, one; from 950 on it is rounded up to 1000 and keeps two. The value is rounded to
    the same place.

    Parameters
    ----------
    value, error : float
        In the same unit; the error is not negative.

    References
    ----------
    Particle Data Group, Review of Particle Physics, Introduction, section 5.3 "Rounding".

    Examples
    --------
    >>> measured(0.827, 0.119), measured(0.827, 0.367)
    ('0.83 ± 0.12', '0.8 ± 0.4')
    >>> measured(6.62607e-34, 1.2e-37)
    '(6.6261 ± 0.0012)e-34'
    """
    rounded = _round(value, error)
    if rounded is None:
        return f"{number(value)} ± {number(error, 2)}"
    power = _power(*rounded)
    shown, spread = (_plain(part.scaleb(-power)) for part in rounded)
    return f"({shown} ± {spread})e{power}" if power else f"{shown} ± {spread}"


def concise(value: float, error: float) -> str:
    """Write a value with the error of its last digits in parentheses.

    Rounded as :func:`measured`.

    Examples
    --------
    >>> concise(0.827, 0.119), concise(12.34, 1.23), concise(6.62607e-34, 1.2e-37)
    ('0.83(12)', '12.3(1.2)', '6.6261(12)e-34')
    """
    rounded = _round(value, error)
    if rounded is None:
        return f"{number(value)}({number(error, 2)})"
    power = _power(*rounded)
    shown, spread = (part.scaleb(-power) for part in rounded)
    digits = _plain(spread) if spread >= 1 else str(int(spread.scaleb(_places(spread))))
    return f"{_plain(shown)}({digits})" + (f"e{power}" if power else "")


def _round(value: float, error: float) -> tuple[Decimal, Decimal] | None:
    """Round both to the place that the error asks for; None where there is no such place."""
    if not (math.isfinite(value) and math.isfinite(error)) or error == 0:
        return None
    # Decimal(repr(.)) rounds what a person reads: 0.355, not 0.35499999999999998.
    exact, spread = Decimal(repr(float(value))), Decimal(repr(float(error)))
    first = spread.adjusted()
    place = first - 1 if int(spread.scaleb(2 - first)) < 355 else first
    if exact and exact.adjusted() - place >= DIGITS:
        return None
    unit = Decimal(1).scaleb(place)
    exact = exact.quantize(unit, rounding=ROUND_HALF_EVEN)
    return exact if exact else abs(exact), spread.quantize(unit, rounding=ROUND_HALF_EVEN)


def _power(value: Decimal, error: Decimal) -> int:
    """Return the power of ten to take out of both, 0 for none."""
    top = max(part.adjusted() for part in (value, error) if part)
    return 0 if top in PLAIN else top


def _places(number: Decimal) -> int:
    return max(0, -int(number.as_tuple().exponent))


def _plain(number: Decimal) -> str:
    return format(number, "f")


def shown(value: Any) -> str:
    r"""Write what came as a message does: one line, and not a long one.

    Examples
    --------
    >>> print(shown("two\nlines"), shown([1, 2]))
    'two\nlines' [1, 2]
    """
    try:
        plain = value.item() if isinstance(value, np.generic) else value
        text = " ".join(repr(plain).split())
    except Exception:  # noqa: BLE001 - objects write themselves as they like
        text = f"<{type(value).__name__}>"
    text = printable(text)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def printable(text: str) -> str:
    r"""Write characters that steer a terminal, or cannot be written, as escapes.

    Line breaks, control characters, marks that turn the direction of writing, halves of surrogate
    pairs; what any language writes stays.

    Examples
    --------
    >>> print(printable("\x1b[31m red \n"))
    \x1b[31m red \n
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def number(value: float, digits: int = 6) -> str:
    """Write a number with at most so many significant digits.

    Examples
    --------
    >>> number(2.4999999999999996), number(1e-7 / 3, 3), number(float("inf"))
    ('2.5', '3.33e-8', 'inf')
    """
    mantissa, exponent, power = f"{value:.{digits}g}".partition("e")
    return mantissa + (f"e{int(power)}" if exponent else "")


def count(n: int) -> str:
    """Write a whole number with separators: ``10,000``."""
    return f"{n:,}"


def plural(n: int, word: str) -> str:
    """Write a count with its noun.

    Examples
    --------
    >>> plural(1, "point"), plural(1200, "point")
    ('1 point', '1,200 points')
    """
    return f"{count(n)} {word}{'' if n == 1 else 's'}"


def enumerated(words: Sequence[str]) -> str:
    """Write a list as one does in a sentence.

    Examples
    --------
    >>> enumerated(["a"]), enumerated(["a", "b"]), enumerated(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def percent(ratio: float) -> str:
    """Write a ratio as a percentage with two significant digits.

    Examples
    --------
    >>> percent(0.02), percent(0.52), percent(1.5), percent(3e-9), percent(float("nan"))
    ('2.0 %', '52 %', '150 %', '3.0e-7 %', '-')
    """
    if not math.isfinite(ratio):
        return "-"
    share = 100 * ratio
    if 99.5 <= abs(share) < 1e5:
        return f"{share:.0f} %"
    mantissa, exponent, power = f"{share:#.2g}".partition("e")
    return mantissa.rstrip(".") + (f"e{int(power)}" if exponent else "") + " %"


def probability(p: float) -> str:
    """Write a probability; NaN, for one that is not defined, becomes a dash.

    Examples
    --------
    >>> probability(0.15712), probability(3.21e-7), probability(0.0), probability(float("nan"))
    ('0.157', '3.2e-7', '< 1e-300', '-')
    """
    if math.isnan(p):
        return "-"
    if p < 1e-300:
        return "< 1e-300"
    return number(p, 2) if p < 1e-3 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """Write a time span in the unit that suits it.

    Examples
    --------
    >>> duration(3.2e-5), duration(0.0123), duration(4.56), duration(200)
    ('32 µs', '12 ms', '4.6 s', '3 min 20 s')
    """
    for limit, unit, scale in ((0.995e-3, "µs", 1e6), (0.995, "ms", 1e3)):
        if seconds < limit:
            return f"{number(seconds * scale, 3 if seconds * scale >= 99.5 else 2)} {unit}"
    if seconds < 99.5:
        return f"{number(seconds, 2)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{count(minutes)} min {rest} s"


def folded(text: str, width: int, indent: str = "") -> list[str]:
    """Break a formula into lines, at blanks and before operators; longer pieces stay whole.

    Examples
    --------
    >>> folded("y = height*exp(-rate*x) + level*x**2 - 1e-5", 24, indent="  ")
    ['y = height*exp(-rate*x)', '  + level*x**2 - 1e-5']
    """
    lines = [""]
    for piece in _BREAK.split(text):
        if lines[-1].strip() and len((lines[-1] + piece).rstrip()) > width:
            lines.append(indent)
        lines[-1] += piece if lines[-1].strip() else piece.lstrip()
    return [line.rstrip() for line in lines]


def columns(rows: Sequence[Sequence[str]], align: str, gap: str = "  ") -> list[str]:
    r"""Set rows of text in columns.

    Parameters
    ----------
    rows : sequence of sequences of str
        Each as long as ``align``.
    align : str
        One letter per column: ``l`` left, ``r`` right, ``p`` at the plus-minus sign.

    Examples
    --------
    >>> print("\n".join(columns([["a", "2.50 ± 0.12"], ["bc", "103 ± 4"]], "lp")))
    a   2.50 ± 0.12
    bc   103 ± 4
    """
    by_column = zip(*rows, strict=True)
    padded = [_aligned(list(cells), how) for cells, how in zip(by_column, align, strict=True)]
    return [gap.join(line).rstrip() for line in zip(*padded, strict=True)]


def _aligned(cells: list[str], how: str) -> list[str]:
    if how == "p":
        left = max(len(cell.partition(" ± ")[0]) for cell in cells)
        cells = [
            cell.partition(" ± ")[0].rjust(left) + "".join(cell.partition(" ± ")[1:])
            for cell in cells
        ]
    width = max(map(len, cells))
    return [cell.rjust(width) if how == "r" else cell.ljust(width) for cell in cells]
