"""Results as plain data and back: dictionaries, and JSON that every reader accepts."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradfit import __version__
from gradfit._format import printable, shown
from gradfit._model import Model, as_model
from gradfit._result.document import check
from gradfit._result.observed import Observed
from gradfit._types import FloatArray, Status
from gradfit.errors import InputError, ModelError

INFINITIES = ("Infinity", "-Infinity", "inf", "-inf", "nan")
"""Texts that stand for numbers."""


def to_dict(result: Any, kind: str) -> dict[str, Any]:
    """Return every field of a result as numbers, text, lists and dictionaries."""
    plain = {field.name: getattr(result, field.name) for field in fields(result)}
    plain["corr"] = result.corr
    observed, model, status = plain.pop("observed"), plain.pop("model"), plain.pop("status")
    return {
        "gradfit": __version__,
        "kind": kind,
        "arrays": "torch" if isinstance(result.cov, Tensor) else "numpy",
        "model": {
            "label": model.label,
            "names": list(model.names),
            "source": model.source,
            "x_names": list(model.x_names),
        },
        "status": status.name if isinstance(status, Status) else status.tolist(),
        **{name: _plain(value) for name, value in plain.items()},
        "observed": {f.name: _plain(getattr(observed, f.name)) for f in fields(observed)},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    many = isinstance(value, Sequence) and not isinstance(value, str)
    return [_plain(each) for each in value] if many else value


def to_fields(
    plain: Mapping[str, Any], kind: str, readers: Mapping[str, Callable[[Any], Any]]
) -> dict[str, Any]:
    """Return the fields of a result from what :func:`to_dict` wrote.

    Parameters
    ----------
    plain : mapping
        As written. As in JSON, NaN may be None and infinities text.
    kind : str
        Which result is wanted.
    readers : mapping
        How to read each field.

    Raises
    ------
    InputError
        These are not the fields of such a result.
    """
    if not isinstance(cast(object, plain), Mapping):
        raise InputError(f"this is no {kind} that to_dict() wrote, but {shown(plain)}.")
    if plain.get("kind") != kind:
        found = shown(plain.get("kind"))
        raise InputError(f"this is no {kind} that to_dict() wrote: kind is {found}.")
    missing = [name for name in (*readers, "model", "observed") if name not in plain]
    if missing:
        raise InputError(f"this {kind} is incomplete: {', '.join(missing)} missing.")
    everything = {**readers, "model": _model, "observed": _observed}
    found = {name: _read(kind, name, read, plain[name]) for name, read in everything.items()}
    check(found, kind)
    if plain.get("arrays") == "torch":
        tensors = {name: _tensors(found[name]) for name in readers if readers[name] in _ARRAYS}
        found |= tensors
    return found


def _read(kind: str, name: str, read: Callable[[Any], Any], value: Any) -> Any:
    """Read one field; whatever goes wrong, the document is damaged."""
    try:
        return read(value)
    except Exception as error:  # noqa: BLE001 - a damaged document may hold anything
        reason = str(error) if isinstance(error, InputError) else f"got {shown(value)}"
        raise InputError(f"this {kind} is damaged: `{name}` cannot be read; {reason}") from None


def load(text: Any, kind: str) -> Mapping[str, Any]:
    """Return what a JSON text holds.

    Raises
    ------
    InputError
        It is no JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"this is no JSON of a {kind}: {printable(reason[:200])}.") from None


def real(value: Any) -> float:
    """Read one number; in quotes only an infinity."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or (isinstance(value, str) and value not in INFINITIES):
        raise TypeError
    return float(value)


def integer(value: Any) -> int:
    """Read one whole number."""
    if isinstance(value, bool | str) or int(value) != value:
        raise TypeError
    return int(value)


def flag(value: Any) -> bool:
    """Read True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError
    return bool(value)


def text(value: Any) -> str:
    """Read a text."""
    if not isinstance(value, str):
        raise TypeError
    return value


def texts(value: Any) -> tuple[str, ...]:
    """Read a list of texts."""
    if isinstance(value, str):
        raise TypeError
    return tuple(map(text, value))


def items(value: Any) -> tuple[Any, ...]:
    """Read a list."""
    if isinstance(value, str | Mapping):
        raise TypeError
    return tuple(value)


def reals(value: Mapping[str, Any]) -> dict[str, float]:
    """Read one number per name."""
    return {name: real(each) for name, each in value.items()}


def pairs(value: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Read two numbers per name."""
    return {name: (real(low), real(high)) for name, (low, high) in value.items()}


def array(value: Any) -> FloatArray | None:
    """Read numbers."""
    return None if value is None else _numbers(value)


def _numbers(value: Any) -> FloatArray:
    """Read numbers of any shape; None is NaN, and in quotes there may be infinities."""
    given = np.asarray(value)
    if given.dtype.kind in "iuf":
        return given.astype(np.float64)
    if given.dtype.kind not in "OU" or not given.size:
        return np.empty(given.shape) if given.dtype.kind == "f" else _refuse()
    return np.array([real(v) for v in np.asarray(value, dtype=object).flat]).reshape(given.shape)


def _refuse() -> Any:
    raise TypeError


def arrays(value: Mapping[str, Any]) -> dict[str, FloatArray]:
    """Read numbers per name."""
    return {name: _numbers(each) for name, each in value.items()}


def whole(value: Any) -> NDArray[np.int64]:
    """Read whole numbers."""
    found = np.asarray(value)
    if found.size and found.dtype.kind not in "iu":
        raise TypeError
    return found.astype(np.int64)


def truth(value: Any) -> NDArray[np.bool_]:
    """Read answers to yes-no questions."""
    found = np.asarray(value)
    if found.dtype.kind != "b":
        raise TypeError
    return found


_ARRAYS = (array, arrays)


def _tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: torch.from_numpy(each) for name, each in value.items()}
    return None if value is None else torch.from_numpy(value)


def _model(plain: Mapping[str, Any]) -> Model:
    x_names = texts(plain["x_names"])
    if plain["source"] is not None:
        return as_model(text(plain["source"]), x_names)
    label = text(plain["label"])
    return Model(_Code(label), texts(plain["names"]), label, x_names=x_names)


@dataclass(frozen=True)
class _Code:
    """Stands for a model that was code, of which only the name was written down."""

    label: str

    def __call__(self, *args: Any) -> Tensor:
        raise ModelError(
            f"the model {self.label!r} was code when its fit was written as text, which keeps "
            "formulas only. Fit a formula, or pickle the result."
        )


def _observed(plain: Mapping[str, Any]) -> Observed:
    values: dict[str, Any] = {
        key: text(value)
        if key == "kind"
        else texts(value)
        if key.endswith("_names")
        else _sigma(value)
        for key, value in plain.items()
    }
    return Observed(**values)


def _sigma(value: Any) -> FloatArray | float | None:
    return real(value) if isinstance(value, float | int | str) else array(value)


def to_json(plain: Mapping[str, Any]) -> str:
    """Write JSON, one field a line: null for NaN, "Infinity" in quotes for infinities."""
    lines = (f"  {json.dumps(key)}: {_written(_strict(value))}" for key, value in plain.items())
    return "{\n" + ",\n".join(lines) + "\n}"


def _written(value: Any) -> str:
    written = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if written.isascii():
        return written
    try:
        written.encode()
    except UnicodeEncodeError:  # halves of surrogate pairs, which no file can hold
        return json.dumps(value, allow_nan=False)
    return written


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(key): _strict(each) for key, each in value.items()}
    return [_strict(each) for each in value] if isinstance(value, list) else value
