"""How a fit is to be run, as the user asked: checked, and in the engine's terms."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from gradfit._data.checks import shown, to_count, to_number
from gradfit._data.frames import open_frame
from gradfit._engine.loss import SCALES, Loss
from gradfit._engine.sandwich import FROM_RESIDUALS
from gradfit._engine.state import Options
from gradfit.errors import InputError

WIDEST = 1e100
"""Scale of a loss, in sigmas, up to which its square is far from the largest number."""


def options_of(gtol: float, ftol: float, xtol: float, max_steps: int) -> Options:
    """Return checked tolerances."""
    shares = _share("gtol", gtol), _share("ftol", ftol), _share("xtol", xtol)
    return Options(*shares, to_count("`max_steps`", max_steps))


def _share(name: str, value: Any) -> float:
    number = value if type(value) is float else to_number(f"`{name}`", value)
    if not 0 <= number < 1:
        raise InputError(f"`{name}` must be at least 0 and below 1, got {number!r}.")
    return number


def choose_loss(loss: Any) -> Loss | None:
    """Return the robust loss of that name, None for least squares."""
    if isinstance(loss, str) and loss == "linear":
        return None
    try:
        name, scale = (loss, None) if isinstance(loss, str) else loss
    except Exception:  # noqa: BLE001 - what can be gone through fails as it likes
        raise InputError(
            f'`loss` must be a name or a name and a scale, as ("huber", 2.0); got {shown(loss)}.'
        ) from None
    refuse_unknown("loss", name, ("linear", *SCALES))
    if name == "linear":
        if scale is not None:
            raise InputError(f'`loss` "linear" has no scale, got {shown(scale)}. Leave it out.')
        return None
    if scale is None:
        return Loss(name, SCALES[name])
    scale = to_number("`loss` needs a scale, which", scale)
    if not scale > 0:
        raise InputError(f"`loss` needs a scale above 0, in sigmas; got {scale!r}.")
    if not 1 / WIDEST <= scale <= WIDEST:
        raise InputError(
            f"`loss` needs a scale between {1 / WIDEST:g} and {WIDEST:g} sigmas, got {scale!r}. "
            'Least squares is loss="linear".'
        )
    return Loss(name, scale)


COV_TYPES = "expected", "observed", "propagated", *FROM_RESIDUALS
"""Where a covariance may come from."""
OTHER_NAMES = {"HC0": "sandwich"}
"""Names of the same that users bring along."""


def choose_cov_type(cov_type: Any) -> str:
    """Return where the covariance is to come from, by the name that results have for it."""
    if isinstance(cov_type, str):
        cov_type = OTHER_NAMES.get(cov_type, cov_type)
    refuse_unknown("cov_type", cov_type, COV_TYPES)
    return cov_type


def refuse_unknown(argument: str, value: Any, known: Sequence[str]) -> None:
    """Raise unless ``value`` is one of the ``known``."""
    if not (isinstance(value, str) and value in known):
        raise InputError(f"`{argument}` must be one of {', '.join(known)}; got {shown(value)}.")


def other_columns(table: Any, x_names: Sequence[str], *said: Any) -> tuple[str, ...]:
    """Return the columns of a table that are neither x nor called parameters by what was said.

    ``said`` are mappings or lists of names: start values, bounds, what groups share.
    """
    if table is None:
        return ()
    taken = set(x_names)
    for each in said:
        names: Any = [each] if isinstance(each, str) else each
        if isinstance(names, Mapping | list | tuple):
            taken.update(name for name in cast("Iterable[Any]", names) if isinstance(name, str))
    return tuple(name for name in open_frame(table).columns if name not in taken)
