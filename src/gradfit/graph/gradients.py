"""Gradients at every value and on every edge, from one backward pass.

Each version of a tensor has its own place in autograd's graph: a node, and an output of it. A hook
on every node that an operation owns sees the gradient that arrives at its outputs, and the part
that leaves for each of its inputs before parts are added up. No ``.grad`` is touched.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from gradfit.graph import autograd_private as private
from gradfit.graph.autograd_private import AutogradNode
from gradfit.graph.draft import Draft, GradEdge
from gradfit.graph.guard import Guard
from gradfit.graph.snapshot import plus, take
from gradfit.graph.values import Snapshot

Grads = tuple[Tensor | None, ...]


@dataclass(slots=True, eq=False)
class _Tap:
    """What to write down when one autograd node has run."""

    draft: Draft | None = None  # the operation that owns the node
    arriving: list[tuple[int, Draft]] = field(default_factory=list)  # output of the node -> value
    leaving: list[tuple[int, int]] = field(default_factory=list)  # input of the node -> slot


class Gradients:
    """What is known of autograd's graph, and the hooks that listen to it."""

    def __init__(self, drafts: list[Draft], keep: int, guarded: Guard) -> None:
        self._drafts = drafts
        self._guarded = guarded
        self._keep = keep
        self._known: dict[GradEdge, Draft] = {}
        self._groups: dict[GradEdge, list[Draft]] = {}
        self._taps: dict[AutogradNode, _Tap] = {}
        self._ends: dict[GradEdge, Draft] = {}  # leaves, and what came in with a history
        self._handles: list[Any] = []
        self._listening = False
        self._reached: set[GradEdge] = set()
        self._taken: dict[tuple[int, int], tuple[Tensor, Snapshot]] = {}

    # -- while the function runs -----------------------------------------------------------------

    def register(self, draft: Draft, tensor: Tensor, *, end: bool = False) -> None:
        """Note the place of a tensor in autograd's graph, after its operation was linked."""
        edge = draft.edge
        if edge is None:
            return
        draft.is_leaf = tensor.grad_fn is None
        group = self._groups.setdefault(edge, [])
        group.append(draft)
        if len(group) == 1 and draft.is_leaf:
            listen = partial(self._at_leaf, draft)
            self._handles.append(edge[0].register_prehook(listen))
        elif len(group) == 1:
            self._tap(edge[0]).arriving.append((edge[1], draft))
        elif not draft.is_leaf and group[-2].id in draft.inputs:
            # Written while nobody recorded: autograd sends the gradient straight through.
            draft.flows[draft.inputs.index(group[-2].id)] = True
        if draft.is_leaf or end:
            self._ends.setdefault(edge, draft)
        self._known[edge] = draft

    def link(self, draft: Draft, outputs: Sequence[Tensor]) -> None:
        """Find the autograd nodes that belong to an operation, and where each input hangs on.

        One operation may own several nodes (``linear``, ``outer``): walk from its outputs back to
        places that are already known.
        """
        slots: dict[GradEdge, list[int]] = {}
        for slot, source in enumerate(draft.inputs):
            edge = self._drafts[source].edge
            if edge is not None:
                slots.setdefault(edge, []).append(slot)
        stack = [t.grad_fn for t in outputs if (t.grad_fn, t.output_nr) not in self._known]
        while stack:
            node = stack.pop()
            if node is None or private.is_accumulator(node):
                continue
            tap = self._tap(node)
            if tap.draft is not None:
                continue
            tap.draft = draft
            draft.autograd_nodes.append(node)
            for place, edge in enumerate(node.next_functions):
                slot = self._slot(draft, edge, slots)
                if slot is None:
                    stack.append(edge[0])
                else:
                    tap.leaving.append((place, slot))

    def _slot(self, draft: Draft, edge: GradEdge, slots: dict[GradEdge, list[int]]) -> int | None:
        found = slots.get(edge)
        if found is None:
            source = self._known.get(edge)
            if source is None:
                return None
            found = slots[edge] = [draft.add_input(source.id)]
        slot = found.pop(0) if len(found) > 1 else found[0]
        draft.flows[slot] = True
        return slot

    def _tap(self, node: AutogradNode) -> _Tap:
        tap = self._taps.get(node)
        if tap is None:
            tap = self._taps[node] = _Tap()
            self._handles.append(node.register_hook(partial(self._at_node, tap)))
        return tap

    def ancestors(self, node: AutogradNode) -> tuple[list[Draft], list[Tensor], int]:
        """Look behind a node made out of sight: known values, unknown leaves, nodes between."""
        known: dict[Draft, None] = {}
        leaves: list[Tensor] = []
        stack, seen = [node], {node}
        while stack:
            for edge in stack.pop().next_functions:
                behind: AutogradNode = edge[0]
                if edge in self._known:
                    known[self._known[edge]] = None
                elif behind is not None and behind not in seen:
                    seen.add(behind)
                    if private.is_accumulator(behind):
                        leaves.append(behind.variable)
                    else:
                        stack.append(behind)
        return list(known), leaves, len(seen) - len(leaves)

    # -- listening -------------------------------------------------------------------------------

    @contextmanager
    def listening(self) -> Generator[set[GradEdge], None, None]:
        """Write down the gradients of the backward pass that runs inside; tell what it reached."""
        self._listening = True
        self._reached = set()
        try:
            yield self._reached
        finally:
            self._listening = False
            self._taken.clear()

    def pull(self, roots: Sequence[Tensor]) -> set[GradEdge]:
        """Run the backward pass of the sum of some tensors; return what it reached."""
        ends = list(self._ends.items())
        if not ends:  # leaves whose place in autograd's graph cannot be read: nothing to ask for
            return set()
        with self.listening() as reached:
            found = torch.autograd.grad(
                roots,
                [GradientEdge(*edge) for edge, _ in ends],
                [torch.ones_like(root) for root in roots],
                retain_graph=True,
                allow_unused=True,
            )
            for (_, draft), gradient in zip(ends, cast(Grads, found), strict=True):
                if gradient is not None and draft.grad is None:
                    self._arrived(draft, gradient)
        return reached

    def _at_leaf(self, draft: Draft, gradients: Grads) -> None:
        if self._listening and gradients[0] is not None:
            self._guarded("gradients", self._arrived, draft, gradients[0])

    def _at_node(self, tap: _Tap, leaving: Grads, arriving: Grads) -> None:
        if self._listening:
            self._guarded("gradients", self._passed, tap, leaving, arriving)

    def _passed(self, tap: _Tap, leaving: Grads, arriving: Grads) -> None:
        for place, draft in tap.arriving:
            gradient = arriving[place]
            if gradient is not None:
                self._arrived(draft, gradient)
        for place, slot in tap.leaving:
            part = leaving[place]
            if part is not None and tap.draft is not None:
                tap.draft.parts[slot] = plus(tap.draft.parts[slot], self._take(part))

    def _arrived(self, draft: Draft, gradient: Tensor) -> None:
        if draft.edge is not None:
            self._reached.add(draft.edge)
        draft.grad = plus(draft.grad, self._take(gradient))

    def _take(self, gradient: Tensor) -> Snapshot:
        """Copy a gradient; what leaves one node often is what arrives at the next."""
        if gradient.numel() > self._keep:
            return take(gradient, self._keep)
        key = id(gradient), private.version(gradient)
        known = self._taken.get(key)
        if known is None:  # the tensor is kept too, so that its identity is not used twice
            known = self._taken[key] = gradient, take(gradient, self._keep)
        return known[1]

    def forget(self) -> None:
        """Drop what a pass that failed half-way has left."""
        for draft in self._drafts:
            draft.grad = None
            draft.parts = [None] * len(draft.parts)

    # -- at the end ------------------------------------------------------------------------------

    def stop(self) -> None:
        """Take every hook away."""
        for handle in self._handles:
            handle.remove()

    def settle(self) -> None:
        """Give the gradient of a shared place to the versions that earned it."""
        uses: dict[int, list[tuple[Draft, int]]] = {}
        for draft in self._drafts:
            for slot, source in enumerate(draft.inputs):
                uses.setdefault(source, []).append((draft, slot))
        for group in self._groups.values():
            if len(group) > 1:
                self._divide(group, uses)
        for draft in self._drafts:
            if draft.output is not None and draft.writes is None:
                draft.parts[0] = draft.grad

    def _divide(self, group: list[Draft], uses: dict[int, list[tuple[Draft, int]]]) -> None:
        for draft in reversed(group):
            own: Snapshot | None = None
            for user, slot in uses.get(draft.id, []):
                part = user.parts[slot]
                own = own if part is None else plus(own, part)
            if draft is not group[0] or draft.is_leaf:
                draft.grad = own
            through = [
                s
                for s, i in enumerate(draft.inputs)
                if draft.flows[s] and i in {one.id for one in group}
            ]
            for slot in through:
                draft.parts[slot] = own
