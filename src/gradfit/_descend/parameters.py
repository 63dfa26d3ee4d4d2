"""Parameters in one block of memory: values first, their gradients behind them.

Autograd sees ordinary leaves, one per name. They share storage with the block, so that one
operation updates, clears or records all of them, however many there are.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gradfit._data.foreign import refuse_foreign, refuse_foreign_items
from gradfit.errors import InputError
from gradfit.graph.surroundings import default_device

LISTED = 128
"""Up to so many numbers, every step is read back as a list; path and gradients are recorded."""


class Block(NamedTuple):
    """Parameters of one dtype on one device: ``both`` is ``values`` followed by ``grads``."""

    both: Tensor
    values: Tensor
    grads: Tensor


class Slot(NamedTuple):
    """Where a parameter lies in a row of numbers."""

    start: int
    stop: int
    shape: tuple[int, ...]


class Parameters:
    """The leaves that a descent moves.

    Parameters
    ----------
    start : mapping of str to number, array or tensor; or nn.Module
        Values to begin with. Numbers and whole numbers become float64; a mapping is copied, a
        module is moved in place (its parameters point into the block until ``release``).

    Raises
    ------
    InputError
        A start value that is no finite real number, or nothing to move.
    """

    def __init__(self, start: Mapping[str, Any] | nn.Module) -> None:
        self.module = start if isinstance(start, nn.Module) else None
        self.kinds: dict[str, type] = {}
        tensors = self._of_module(start) if isinstance(start, nn.Module) else self._of(start)
        self.names = tuple(tensors)
        self.blocks: list[Block] = []
        self.slots: dict[str, Slot] = {}
        leaves: dict[str, Tensor] = {}
        self._groups = _alike(tensors)
        for names in self._groups:
            self._lay_out({name: tensors[name] for name in names}, leaves)
        self.leaves = {name: leaves[name] for name in self.names}
        self.adopt_gradients()
        self.n = sum(block.values.numel() for block in self.blocks)
        self.listed = self.n <= LISTED

    def _of(self, start: Mapping[str, Any]) -> dict[str, Tensor]:
        if not start:
            raise InputError("`start` is empty; give every parameter of the loss a value")
        self.kinds = {name: type(value) for name, value in start.items()}
        return {name: _tensor(name, value) for name, value in start.items()}

    def _of_module(self, module: nn.Module) -> dict[str, Tensor]:
        found = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not found:
            raise InputError(
                f"`start` has nothing to move: no parameter of {type(module).__name__} "
                "requires a gradient"
            )
        lazy = [name for name, p in found.items() if nn.parameter.is_lazy(p)]
        if lazy:
            raise InputError(f"`start`: `{lazy[0]}` has no shape yet; run the module once first")
        self.kinds = dict.fromkeys(found, Tensor)
        return dict(found)

    def _lay_out(self, tensors: Mapping[str, Tensor], leaves: dict[str, Tensor]) -> None:
        flat = torch.cat([t.detach().reshape(-1) for t in tensors.values()])
        both = torch.cat([flat, torch.zeros_like(flat)])
        # `.data` gives gradients a version of their own: autograd adds to them while it still
        # needs the values, and would take the values for changed.
        values, grads = both[: len(flat)], both.data[len(flat) :]
        self.blocks.append(Block(both, values, grads))
        # Slots count in the row that all blocks make together, so each block starts where the
        # one before ended.
        first = max((slot.stop for slot in self.slots.values()), default=0)
        at = 0
        for name, tensor in tensors.items():
            end, shape = at + tensor.numel(), tensor.shape
            self.slots[name] = Slot(first + at, first + end, tuple(shape))
            value = values[at:end].view(shape).detach()
            if self.module is None:
                leaves[name] = value.requires_grad_(True)
            else:
                tensor.data = value
                tensor.grad = None
                leaves[name] = tensor
            at = end

    # -- as numbers ------------------------------------------------------------------------------

    @property
    def columns(self) -> tuple[str, ...]:
        """A name for every number, in the order of a row: ``a``, ``w[0]``, ``w[1,2]``."""
        return tuple(
            name + (f"[{','.join(map(str, index))}]" if index else "")
            for name, slot in self.slots.items()
            for index in np.ndindex(*slot.shape)
        )

    def row(self) -> list[float] | None:
        """Read values and then gradients; ``None`` where they are many."""
        if not self.listed:
            return None
        if len(self.blocks) == 1:
            return self.blocks[0].both.tolist()
        values: list[float] = [v for block in self.blocks for v in block.values.tolist()]
        return values + [g for block in self.blocks for g in block.grads.tolist()]

    def norm(self, row: list[float] | None) -> float:
        """Return the Euclidean norm of the gradient."""
        if row is not None:
            return math.hypot(*row[self.n :])
        return math.hypot(*(block.grads.norm().item() for block in self.blocks))

    def named(self, row: list[float]) -> dict[str, Any]:
        """Sort the first numbers of a row by parameter, numbers as floats, the rest as arrays."""
        return {
            name: row[slot.start] if not slot.shape else _array(row, slot)
            for name, slot in ((name, self.slots[name]) for name in self.names)
        }

    # -- moving ----------------------------------------------------------------------------------

    def clear(self) -> None:
        """Set every gradient to zero."""
        for block in self.blocks:
            block.grads.zero_()

    def scale_gradients(self, factor: float) -> None:
        """Multiply every gradient."""
        for block in self.blocks:
            block.grads.mul_(factor)

    def adopt_gradients(self) -> None:
        """Take gradients that autograd stored in tensors of its own into the block."""
        for block, names in zip(self.blocks, self._groups, strict=True):
            at = 0
            for name in names:
                leaf = self.leaves[name]
                home = block.grads[at : at + leaf.numel()].view(leaf.shape)
                if leaf.grad is None:
                    home.zero_()
                else:
                    home.copy_(leaf.grad.to_dense() if leaf.grad.is_sparse else leaf.grad)
                leaf.grad = home
                at += leaf.numel()

    def copy(self) -> list[Tensor]:
        """Return a copy of all values, one tensor per block."""
        return [block.values.clone() for block in self.blocks]

    def put(self, values: list[Tensor]) -> None:
        """Set all values."""
        for block, value in zip(self.blocks, values, strict=True):
            block.values.copy_(value)

    def put_row(self, row: list[float]) -> None:
        """Set all values from the first numbers of a row."""
        at = 0
        for block in self.blocks:
            end = at + block.values.numel()
            block.values.copy_(torch.as_tensor(row[at:end], dtype=torch.float64, device="cpu"))
            at = end

    def as_given(self) -> dict[str, Any]:
        """Return the present values as they were given: numbers, arrays or tensors."""
        return {name: _as(self.kinds[name], leaf) for name, leaf in self.leaves.items()}

    def release(self) -> None:
        """Give a module its own tensors back, with the present values."""
        if self.module is not None:
            for leaf in self.leaves.values():
                leaf.data = leaf.data.clone()
                leaf.grad = None

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.leaves.values())


def _alike(tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """Group names by dtype and device, in order of first appearance."""
    groups: dict[tuple[torch.dtype, torch.device], list[str]] = {}
    for name, tensor in tensors.items():
        groups.setdefault((tensor.dtype, tensor.device), []).append(name)
    return list(groups.values())


def _tensor(name: str, value: Any) -> Tensor:
    title = f"`start`: `{name}`"
    refuse_foreign(title, value)
    if isinstance(value, list | tuple):
        refuse_foreign_items(title, value)
    try:
        if isinstance(value, Tensor):
            tensor = value
        else:  # the loss of the user makes its own tensors there
            tensor = torch.from_numpy(np.array(value)).to(default_device())
    except Exception:  # noqa: BLE001 - objects make arrays of themselves as they like
        tensor = None
    if tensor is None or tensor.dtype in (torch.bool, torch.complex64, torch.complex128):
        raise InputError(
            f"`start`: `{name}` must be a real number, an array or a tensor; "
            f"{type(value).__name__} came"
        )
    tensor = tensor.detach()
    tensor = tensor if tensor.is_floating_point() else tensor.to(torch.float64)
    finite = torch.isfinite(tensor)
    if not bool(finite.all()):
        first = tensor[~finite].reshape(-1)[0].item() if tensor.ndim else tensor.item()
        raise InputError(f"`start`: `{name}` must be finite; {first} came")
    return tensor


def _as(kind: type, leaf: Tensor) -> Any:
    if issubclass(kind, Tensor):
        return leaf.detach().clone()
    return leaf.detach().numpy().copy() if leaf.ndim else leaf.item()


def _array(row: list[float], slot: Slot) -> np.ndarray[Any, Any]:
    return np.array(row[slot.start : slot.stop]).reshape(slot.shape)
