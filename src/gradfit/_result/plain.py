"""Results as plain data and back: dictionaries, and JSON that every reader accepts."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradfit import __version__
from gradfit._model import Model, as_model
from gradfit._result.observed import Observed
from gradfit._types import FloatArray, Status
from gradfit.errors import InputError, ModelError


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
    if plain.get("kind") != kind:
        raise InputError(f"this is no {kind} that to_dict() wrote: kind is {plain.get('kind')!r}.")
    missing = [name for name in (*readers, "model", "observed") if name not in plain]
    if missing:
        raise InputError(f"this {kind} is incomplete: {', '.join(missing)} missing.")
    found = {name: read(plain[name]) for name, read in readers.items()}
    if plain.get("arrays") == "torch":
        tensors = {name: _tensors(found[name]) for name in found if readers[name] in _ARRAYS}
        found |= tensors
    return {**found, "model": _model(plain["model"]), "observed": _observed(plain["observed"])}


def real(value: Any) -> float:
    """Read one number."""
    return math.nan if value is None else float(value)


def reals(value: Mapping[str, Any]) -> dict[str, float]:
    """Read one number per name."""
    return {name: real(each) for name, each in value.items()}


def pairs(value: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Read two numbers per name."""
    return {name: (real(low), real(high)) for name, (low, high) in value.items()}


def array(value: Any) -> FloatArray | None:
    """Read numbers."""
    return None if value is None else np.asarray(value, dtype=np.float64)


def arrays(value: Mapping[str, Any]) -> dict[str, FloatArray]:
    """Read numbers per name."""
    return {name: np.asarray(each, dtype=np.float64) for name, each in value.items()}


def whole(value: Any) -> NDArray[np.int64]:
    """Read whole numbers."""
    return np.asarray(value, dtype=np.int64)


def truth(value: Any) -> NDArray[np.bool_]:
    """Read answers to yes-no questions."""
    return np.asarray(value, dtype=np.bool_)


_ARRAYS = (array, arrays)


def _tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: torch.from_numpy(each) for name, each in value.items()}
    return None if value is None else torch.from_numpy(value)


def _model(plain: Mapping[str, Any]) -> Model:
    if plain["source"] is not None:
        return as_model(plain["source"], plain["x_names"])
    label = plain["label"]
    return Model(_Code(label), tuple(plain["names"]), label, x_names=tuple(plain["x_names"]))


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
        key: tuple(value) if key.endswith("_names") else _sigma(value)
        for key, value in plain.items()
    }
    return Observed(**values)


def _sigma(value: Any) -> FloatArray | float | None:
    return float(value) if isinstance(value, float | int) else array(value)


def to_json(plain: Mapping[str, Any]) -> str:
    """Write JSON, one field a line: null for NaN, "Infinity" in quotes for infinities."""
    lines = (
        f"  {json.dumps(key)}: {json.dumps(_strict(value), ensure_ascii=False, allow_nan=False)}"
        for key, value in plain.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}"


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(key): _strict(each) for key, each in value.items()}
    return [_strict(each) for each in value] if isinstance(value, list) else value
