"""What a user types after an option, turned into values: ``a=1,b=2`` and ``b=0:10``."""

import math
from collections.abc import Iterator, Sequence

from gradfit.errors import InputError


def numbers(option: str, texts: Sequence[str]) -> dict[str, float]:
    """Read ``NAME=NUMBER`` pairs, separated by commas or given by repeating the option."""
    items = [item for text in texts for item in text.split(",")]
    return {name: _number(option, name, value) for name, value in _pairs(option, items)}


def vectors(option: str, texts: Sequence[str]) -> dict[str, float | list[float]]:
    """Read ``NAME=NUMBER`` or ``NAME=NUMBER,NUMBER,...``; several numbers make a list."""
    out: dict[str, float | list[float]] = {}
    for name, value in _pairs(option, [item for text in texts for item in _split(text)]):
        items = [_number(option, name, item) for item in value.split(",")]
        out[name] = items[0] if len(items) == 1 else items
    return out


def bounds(option: str, texts: Sequence[str]) -> dict[str, tuple[float | None, float | None]]:
    """Read ``NAME=LOW:HIGH``; an empty side is open."""
    out: dict[str, tuple[float | None, float | None]] = {}
    for name, value in _pairs(option, [item for text in texts for item in text.split(",")]):
        low, colon, high = value.partition(":")
        if not colon:
            raise InputError(
                f"{option}: expected {name}=LOW:HIGH, got {value!r}; leave a side empty to open it"
            )
        out[name] = (
            _number(option, name, low) if low.strip() else None,
            _number(option, name, high) if high.strip() else None,
        )
    return out


def _pairs(option: str, items: Sequence[str]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for item in items:
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not name.isidentifier() or not value:
            raise InputError(f"{option}: expected NAME=VALUE, got {item.strip()!r}")
        if name in seen:
            raise InputError(f"{option}: {name!r} is given twice")
        seen.add(name)
        yield name, value


def _split(text: str) -> list[str]:
    """Cut at the commas before a new name, so that ``x=1,2,b=3`` gives ``x=1,2`` and ``b=3``."""
    items: list[str] = []
    for piece in text.split(","):
        if "=" in piece or not items:
            items.append(piece)
        else:
            items[-1] += f",{piece}"
    return items


def _number(option: str, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{option}: {name} must be a number, got {text.strip()!r}") from None
    if not math.isfinite(value):
        raise InputError(f"{option}: {name} must be finite, got {text.strip()!r}")
    return value
