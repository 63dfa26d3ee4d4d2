"""Formulas as people write them, put into Python's signs with the place of each."""

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

from gradfit.errors import InputError

_SIGNS = {
    "^": "**",
    "\u00b7": "*",
    "\u22c5": "*",
    "\u2219": "*",
    "\u00d7": "*",
    "\u00f7": "/",
    "\u2212": "-",
    "\u2013": "-",
    "\u2264": "<=",
    "\u2265": ">=",
    "\u2260": "!=",
}
"""Signs of print: dots and crosses of products, minus and dash, comparisons; and the power."""
_RAISED = re.compile("[\u207b\u207a]?[\u00b9\u00b2\u00b3\u2070\u2074-\u2079]+")
"""A raised whole number, such as that of a square."""
_SHOWN = 80
"""Characters of a formula that a message shows."""


@dataclass(frozen=True)
class Source:
    """Python's text of a formula, and where each of its characters comes from.

    Attributes
    ----------
    python : str
        Text that Python parses.
    places : tuple of int
        For each character, and the end, the index of the character of the formula.
    """

    python: str
    places: tuple[int, ...]

    @cached_property
    def _characters(self) -> list[int]:
        """Return the index of the character at each byte, and at the end."""
        out = [i for i, c in enumerate(self.python) for _ in c.encode()]
        return [*out, len(self.python)]

    def place(self, byte: int) -> int:
        """Return the character of the formula at a byte of Python's text."""
        return self.places[self._characters[min(byte, len(self._characters) - 1)]]


def read(text: str, start: int = 0) -> Source:
    """Put ``text[start:]`` into Python's signs.

    Raises
    ------
    InputError
        A character has no place in a formula.
    """
    parts: list[str] = []
    places: list[int] = []
    at = start
    while at < len(text):
        raised = _RAISED.match(text, at)
        if raised is not None:
            sign, stop = "**" + unicodedata.normalize("NFKC", raised[0]), raised.end()
            sign = sign.replace("\u2212", "-")
        else:
            sign, stop = _SIGNS.get(text[at], text[at]), at + 1
            if not text[at].isprintable() or (text[at] in "#\\$?!" and not _is_unequal(text, at)):
                refuse(text, at, stop, f"{_named(text[at])} has no meaning in a formula.")
        parts.append(sign)
        places += [at] * len(sign)
        at = stop
    return Source("".join(parts), (*places, len(text)))


def _is_unequal(text: str, at: int) -> bool:
    return text[at : at + 2] == "!="


def _named(character: str) -> str:
    shown = repr(character) if character.isprintable() else "an invisible character"
    return f"{shown} (U+{ord(character):04X})"


def refuse(text: str, start: int, stop: int, reason: str) -> NoReturn:
    """Raise an InputError of one line, with a note that points at ``text[start:stop]``."""
    # What cannot be printed would break the message, and what turns lines round the note.
    text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
    error = InputError(f"formula {shown!r}, column {start + 1}: {reason}")
    error.add_note(f"    {text}\n    {' ' * start}{'^' * max(1, stop - start)}")
    raise error from None
