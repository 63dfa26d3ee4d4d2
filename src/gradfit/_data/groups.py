"""Labels of groups, numbered in order of first appearance."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradfit.errors import InputError


def number_groups(
    labels: Any, n: int
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], tuple[Any, ...]]:
    """Return the number of each point's group (n,), and the label of each group.

    Raises
    ------
    InputError
        Not one label per point, or a label is missing.
    """
    values = _as_array(labels)
    if values.shape != (n,):
        raise InputError(
            f"`groups` must hold one label per point, shape ({n},); got shape {values.shape}."
        )
    _refuse_missing(values)
    if values.dtype.kind == "O":
        order: dict[Any, int] = {}
        try:
            found = [order.setdefault(v, len(order)) for v in values.tolist()]
        except TypeError as e:
            raise InputError(f"`groups` must hold labels that can be compared: {e}.") from None
        return np.asarray(found, dtype=np.int64), tuple(order)
    unique, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first, kind="stable")
    rank = np.empty(len(unique), dtype=np.int64)
    rank[by_appearance] = np.arange(len(unique))
    return rank[inverse.reshape(-1)], tuple(unique[by_appearance].tolist())


def _as_array(labels: Any) -> np.ndarray[Any, Any]:
    if isinstance(labels, Tensor):
        return labels.detach().cpu().numpy()
    if isinstance(labels, list | tuple):
        # One label after the other: NumPy would turn (1, "a") into two texts.
        values = np.empty(len(labels), dtype=object)
        values[:] = labels
        kinds = {type(v) for v in values}
        return np.asarray(labels) if len(kinds) == 1 and kinds <= {int, str, float} else values
    if hasattr(labels, "to_numpy"):
        return labels.to_numpy()
    return np.asarray(labels)


def _refuse_missing(values: np.ndarray[Any, Any]) -> None:
    if values.dtype.kind == "O":
        missing = np.asarray([v is None or v != v for v in values], dtype=bool)
    elif values.dtype.kind in "fM":
        missing = values != values
    else:
        return
    if missing.any():
        raise InputError(
            f"`groups` has no label for {int(missing.sum())} of {len(values)} points "
            f"(first at index {int(missing.argmax())})."
        )


def sort_order(group: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor | None:
    """Return the stable order that brings groups together, None if they are so already."""
    if bool((group[1:] >= group[:-1]).all()):
        return None
    return torch.from_numpy(np.argsort(group, kind="stable"))
