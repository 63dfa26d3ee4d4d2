"""Labels of groups, numbered in order of first appearance."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradfit.errors import InputError

ORDERED = "biufUSmM"
"""Kinds of labels of which one is larger than another."""
PART = 1 << 18
"""Labels that one thread looks at before it takes the next."""


class Keys(Sequence[Any]):
    """Labels that are in order, as a tuple of them would be; each is made when it is asked for.

    A million of Python's own numbers take longer to make than the groups to be told apart.
    """

    def __init__(self, labels: NDArray[Any]) -> None:
        self._labels = labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, at: Any) -> Any:
        found = self._labels[at]
        return tuple(found.tolist()) if isinstance(at, slice) else found.item()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._labels.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keys | tuple) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


class Groups(NamedTuple):
    """Which points belong together.

    Attributes
    ----------
    number : ndarray (N,) int64
        Number of each point's group, in order of first appearance.
    keys : sequence
        Label of each group.
    sizes : ndarray (G,) int64
        Points of each group.
    order : ndarray (N,) int64 or None
        The stable order that brings groups together; None if they are so already.
    """

    number: NDArray[np.int64]
    keys: Sequence[Any]
    sizes: NDArray[np.int64]
    order: NDArray[np.int64] | None


def number_groups(labels: Any, n: int) -> Groups:
    """Give a number to each group, by the labels of n points.

    Only the ends of runs of equal labels are looked at: labels that are in order already are
    compared once with their neighbours, and nothing is sorted.

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
    keys: Sequence[Any] | None = None
    if values.dtype.kind == "O":
        values, keys = _number_objects(values)
    first, heads = _find_runs(values)
    lengths = np.diff(first, append=n)
    is_numbered = _are_numbers(values, heads)
    if keys is None:
        heads, keys = _number_runs(heads)
    number = values if is_numbered else np.repeat(heads, lengths)
    if len(keys) == len(heads):
        return Groups(number, keys, lengths, None)
    sizes = np.bincount(heads, lengths, len(keys)).astype(np.int64)
    runs = np.argsort(heads, kind="stable")
    shift = first[runs] - np.cumsum(lengths[runs]) + lengths[runs]
    return Groups(number, keys, sizes, np.arange(n) + np.repeat(shift, lengths[runs]))


def _find_runs(values: np.ndarray[Any, Any]) -> tuple[NDArray[np.int64], np.ndarray[Any, Any]]:
    """Return where runs of equal labels begin, and the label of each."""

    def find(start: int) -> tuple[NDArray[np.int64], np.ndarray[Any, Any]]:
        part = values[start : start + PART + 1]
        begins = np.flatnonzero(part[1:] != part[:-1]) + 1
        return begins + start, part.take(begins)

    starts = range(0, len(values) - 1, PART)
    if len(starts) < 2:
        parts = [find(start) for start in starts]
    else:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            parts = list(pool.map(find, starts))
    first = np.concatenate([np.zeros(1, dtype=np.int64), *(p[0] for p in parts)])
    return first, np.concatenate([values[:1], *(p[1] for p in parts)])


def _are_numbers(values: np.ndarray[Any, Any], heads: np.ndarray[Any, Any]) -> bool:
    """Return whether labels are 0, 1, 2, ... in order, so that they are the numbers themselves."""
    if values.dtype != np.int64 or not (values.flags.c_contiguous and values.flags.writeable):
        return False
    return heads[0] == 0 and bool((heads == np.arange(len(heads))).all())


def _number_objects(values: np.ndarray[Any, Any]) -> tuple[NDArray[np.int64], tuple[Any, ...]]:
    """Return the number of each label, whatever it is, and the labels."""
    order: dict[Any, int] = {}
    try:
        found = [order.setdefault(v, len(order)) for v in values.tolist()]
    except TypeError as e:
        raise InputError(f"`groups` must hold labels that can be compared: {e}.") from None
    return np.asarray(found, dtype=np.int64), tuple(order)


def _number_runs(heads: np.ndarray[Any, Any]) -> tuple[NDArray[np.int64], Sequence[Any]]:
    """Return the number of each run by its label, and the labels."""
    if heads.dtype.kind in ORDERED and bool((heads[1:] > heads[:-1]).all()):
        return np.arange(len(heads)), Keys(heads)
    unique, first, inverse = np.unique(heads, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first, kind="stable")
    rank = np.empty(len(unique), dtype=np.int64)
    rank[by_appearance] = np.arange(len(unique))
    return rank[inverse.reshape(-1)], tuple(unique[by_appearance].tolist())


def _as_array(labels: Any) -> np.ndarray[Any, Any]:
    if isinstance(labels, Tensor):
        if labels.is_meta or labels.layout != torch.strided:
            raise InputError("`groups` must hold labels; this tensor has no data, or is sparse.")
        if labels.dtype == torch.bfloat16:
            labels = labels.float()
        return labels.detach().cpu().resolve_conj().numpy()
    if np.ma.isMaskedArray(labels):
        masked = np.ma.getmaskarray(labels)
        if masked.any():
            raise InputError(
                f"`groups` has no label for {int(masked.sum())} of {masked.size} points "
                f"(masked; first at index {int(masked.reshape(-1).argmax())})."
            )
        return np.asarray(labels)
    if isinstance(labels, list | tuple):
        # One label after the other: NumPy would turn (1, "a") into two texts.
        kinds = set(map(type, labels))
        if any(issubclass(kind, Tensor | np.ndarray) for kind in kinds):
            raise InputError("`groups` must hold labels, not a list of arrays or tensors.")
        values = np.empty(len(labels), dtype=object)
        values[:] = labels
        return np.asarray(labels) if len(kinds) == 1 and kinds <= {int, str, float} else values
    try:
        return np.asarray(labels.to_numpy() if hasattr(labels, "to_numpy") else labels)
    except Exception as error:  # noqa: BLE001 - objects make arrays of themselves as they like
        kind = type(labels).__name__
        raise InputError(
            f"`groups` must hold one label per point; {kind} makes no array "
            f"({type(error).__name__})."
        ) from None


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
