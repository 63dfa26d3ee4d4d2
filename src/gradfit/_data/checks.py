"""What is wrong with numbers, in one line each."""

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, cast

import numpy as np
import torch
from torch import Tensor

from gradfit._data.foreign import refuse_foreign
from gradfit._format import shown as shown
from gradfit.errors import InputError

CLEAN = 'Clean the data, or leave such rows out with nan_policy="omit".'
"""What to do about numbers that are none."""
MOST = 10**15
"""Whole numbers up to which doubles count one by one; nobody waits for more of anything."""


def to_number(title: str, value: Any) -> float:
    """Return one real number, which may be NaN or inf; the message begins with ``title``."""
    if type(value) is float or type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise InputError(f"{title} is too large: above 1.8e308.") from None
    refuse_foreign(title, value)
    try:
        # Text that looks like a number, and True, are something else given by mistake.
        if not isinstance(value, str | bytes | bool) and _is_real(value):
            return float(value.detach() if isinstance(value, Tensor) else value)
    except Exception:  # noqa: BLE001 - objects make numbers of themselves as they like
        pass
    raise InputError(f"{title} must be one number, got {shown(value)}.")


def _is_real(value: Any) -> bool:
    """Return whether a number, or an array of one without axes, is a real number."""
    if value is np.ma.masked or getattr(value, "ndim", 0) != 0:
        return False
    if isinstance(value, Tensor):
        return value.dtype != torch.bool and not value.dtype.is_complex
    return not isinstance(value, np.generic | np.ndarray) or value.dtype.kind in "iufO"


def to_finite(title: str, value: Any) -> float:
    """Return one finite number."""
    number = to_number(title, value)
    if number - number != 0:
        raise InputError(f"{title} must be finite, got {number:g}.")
    return number


def to_count(title: str, value: Any) -> int:
    """Return a whole number of at least 1."""
    if type(value) is int and 1 <= value <= MOST:
        return value
    number = to_finite(title, value)
    if number != int(number):
        raise InputError(f"{title} must be a whole number, got {shown(value)}.")
    if number < 1:
        raise InputError(f"{title} must be at least 1, got {shown(value)}.")
    if number > MOST:
        raise InputError(f"{title} must be at most {MOST:,}, got {shown(value)}.")
    return int(number)


def to_seed(title: str, value: Any) -> "int | np.random.Generator":
    """Return a seed of NumPy's random numbers: a whole number from 0 on, or a generator."""
    if isinstance(value, np.random.Generator):
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 0:
        return int(value)
    raise InputError(
        f"{title} must be a whole number from 0 on or a numpy.random.Generator, got {shown(value)}."
    )


def to_mapping(title: str, value: Any, example: str) -> dict[Any, Any]:
    """Return a mapping as a dict, an empty one for None."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError(f"{title} must be a mapping from names, as {example}; got {shown(value)}.")
    return dict(cast(Mapping[Any, Any], value))


def to_list(title: str, value: Any, example: str) -> list[Any]:
    """Return whatever can be gone through as a list, but no text."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InputError(f"{title} must be a sequence, as {example}; got {shown(value)}.")
    try:
        return list(cast(Iterable[Any], value))
    except Exception:  # noqa: BLE001 - what can be gone through fails as it likes
        raise InputError(f"{title} must be a sequence, as {example}; got {shown(value)}.") from None


def to_flag(title: str, value: Any) -> bool:
    """Return True or False, and nothing that merely counts as one of them."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{title} must be True or False, got {shown(value)}.")
    return bool(value)


def to_flags(title: str, value: Any, device: torch.device | None) -> Tensor:
    """Return True and False as a tensor of whatever shape they came in."""
    if isinstance(value, Tensor):
        if value.dtype != torch.bool or value.is_meta:
            kind = "a tensor without data" if value.is_meta else value.dtype
            raise InputError(f"{title} must hold True or False, got {kind}.")
        return value.to(device)
    refuse_foreign(title, value)
    if np.ma.is_masked(value):
        raise InputError(f"{title} is masked at some points: give True or False for each.")
    try:
        array = np.asarray(value)
    except ValueError:
        raise InputError(f"{title} is ragged, got {shown(value)}.") from None
    except Exception:  # noqa: BLE001 - objects make arrays of themselves as they like
        raise InputError(f"{title} must hold True or False, got {shown(value)}.") from None
    if array.dtype.kind == "O" and all(isinstance(v, bool | np.bool_) for v in array.flat):
        array = array.astype(bool)
    if array.dtype.kind != "b":
        wrong = next((v for v in array.flat if not isinstance(v, bool | np.bool_)), value)
        raise InputError(f"{title} must hold True or False, got {shown(wrong)}.")
    return torch.tensor(array, device=device, dtype=torch.bool)


def check_covariance(cov: Tensor) -> None:
    """Raise unless every matrix (N, k, k) is symmetric and positive semidefinite."""
    fine = torch.isfinite(cov).flatten(1).all(1)
    variance = cov.diagonal(dim1=1, dim2=2)
    negative = (variance < 0).any(1) & fine
    if bool(negative.any()):
        _refuse_matrix(negative, "has a negative variance")
    size = variance.sqrt()
    scale = size[:, :, None] * size[:, None, :]
    skew = ((cov - cov.mT).abs() > 1e-8 * scale).flatten(1).any(1) & fine
    if bool(skew.any()):
        _refuse_matrix(skew, "is not symmetric")
    # Of correlations, so that the tolerance does not depend on units; 0/0 is an exact coordinate.
    loose = ((scale == 0) & (cov != 0)).flatten(1).any(1)
    corr = torch.where(scale > 0, cov / scale, 0.0)
    corr[~fine] = 0
    lowest = torch.linalg.eigvalsh(corr)[:, 0] if cov.shape[1] > 2 else _lowest_of_two(corr)
    indefinite = ((lowest < -1e-9) | loose) & fine
    if bool(indefinite.any()):
        _refuse_matrix(indefinite, "is not positive semidefinite")


def _lowest_of_two(corr: Tensor) -> Tensor:
    return 1 - corr[:, 0, 1].abs() if corr.shape[1] == 2 else corr[:, 0, 0]


def _refuse_matrix(bad: Tensor, what: str) -> NoReturn:
    where = (
        f"; {int(bad.sum())} of {len(bad)} matrices (first at index {int(bad.nonzero()[0])})"
        if len(bad) > 1
        else ""
    )
    raise InputError(
        f"`cov` {what}{where}. Give variances on the diagonal and covariances beside it."
    )


def refuse_where(bad: Tensor, values: Tensor, what: str, advice: str) -> None:
    """Raise if any is bad: how many, the first, and what to do."""
    if not bool(bad.any()):
        return
    one_row = bad.ndim == 1 or bad.shape[0] == 1
    at = bad.nonzero()[0].tolist()
    place = at[-1] if one_row else tuple(at)
    if bad.numel() == 1:
        raise InputError(f"{what}, got {float(values.reshape(-1)[0]):g}. {advice}")
    count = int(bad.sum())
    raise InputError(
        f"{what}; {count} of {bad.numel()} values {'is' if count == 1 else 'are'} wrong "
        f"(first at index {place}: {float(values[tuple(at)]):g}). {advice}"
    )


def refuse_negative(title: str, sigma: Tensor) -> None:
    """Raise where a standard deviation is negative."""
    what, advice = "must not be negative", "Give standard deviations, 0 for exact values."
    refuse_where(sigma < 0, sigma, f"{title} {what}", advice)


def refuse_nonfinite(title: str, values: Tensor, advice: str = CLEAN) -> None:
    """Raise where a number is NaN or inf."""
    refuse_where(~torch.isfinite(values), values, f"{title} must be finite", advice)
