"""Values of several parts while Python is translated: tuples, named tuples, nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class Record:
    """A named tuple while it is translated."""

    fields: dict[str, Any]


def flatten(value: Any) -> Iterator[Any]:
    """Return the single values that a value is made of, in order."""
    if isinstance(value, Record):
        for v in value.fields.values():
            yield from flatten(v)
    elif isinstance(value, tuple):
        for v in value:
            yield from flatten(v)
    elif value is not None:
        yield value


def rebuild(like: Any, given: Iterator[Any]) -> Any:
    """Put single values together as ``like`` is."""
    if isinstance(like, Record):
        return Record({k: rebuild(v, given) for k, v in like.fields.items()})
    if isinstance(like, tuple):
        return tuple(rebuild(v, given) for v in like)
    return None if like is None else next(given)


def shape(value: Any) -> Any:
    """Return how a value is put together."""
    if isinstance(value, Record):
        return tuple((k, shape(v)) for k, v in value.fields.items())
    if isinstance(value, tuple):
        return tuple(map(shape, value))
    return value is None
