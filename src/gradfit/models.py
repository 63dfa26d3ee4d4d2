"""Models that need no start values.

Every model is a function of ``x`` and its parameters in torch operations. Its name does as well:
 ``gf.fit("gaussian", x, y)`` is ``gf.fit(gf.models.gaussian, x, y)``.
"""

from collections.abc import Callable

from torch import Tensor

_CATALOGUE: dict[str, tuple[Callable[..., Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]] = {}


def names() -> tuple[str, ...]:
    """Return the names of all models."""
    return tuple(_CATALOGUE)


def known(name: str) -> bool:
    """Return whether there is a model of that name."""
    return name in _CATALOGUE


def get(name: str) -> Callable[..., Tensor]:
    """Return the function of that name."""
    return _CATALOGUE[name][0]


def guess_of(fn: object) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
    """Return what guesses start values for ``fn``; None for functions from elsewhere."""
    entry = _CATALOGUE.get(getattr(fn, "__name__", ""))
    return entry[1] if entry is not None and entry[0] is fn else None
