"""Which node each tensor stands for, through writes in place, views, and code out of sight."""

from typing import Any

import torch
from torch import Tensor, nn

from gradfit.errors import TraceError
from gradfit.graph import autograd_private as private
from gradfit.graph.autograd_private import AutogradNode
from gradfit.graph.draft import Draft, GradEdge, Held, Step, Why
from gradfit.graph.functions import described
from gradfit.graph.gradients import Gradients
from gradfit.graph.guard import Guard
from gradfit.graph.names import Names
from gradfit.graph.place import Place
from gradfit.graph.reasons import why
from gradfit.graph.record import Kind
from gradfit.graph.snapshot import take


class Ledger:
    """The drafts of one trace, and the tensors in hand.

    A tensor and its version make one node. Tensors are kept alive for the length of the trace, so
    that no identity is used twice.
    """

    def __init__(self, names: Names, keep: int, max_nodes: int) -> None:
        self.drafts: list[Draft] = []
        self.guarded = Guard()
        self.gradients = Gradients(self.drafts, keep, self.guarded)
        self._names = names
        self._keep = keep
        self._max_nodes = max_nodes
        self.pending: list[Step] = []  # custom Functions whose outputs did not turn up yet
        self._held: dict[int, Held] = {}
        self._writers: dict[int, Held] = {}  # memory -> the last version written to it
        self._first_sequence = private.sequence_now()

    def new(self, kind: Kind, op: str, place: Place | None = None, **fields: Any) -> Draft:
        """Start a node; ``inputs`` are nodes."""
        if len(self.drafts) >= self._max_nodes:
            raise TraceError(
                f"the function runs more than {self._max_nodes} operations, too many to look at; "
                "trace one step or one layer of it, or pass a larger `max_nodes`"
            )
        inputs: list[Draft] = fields.pop("inputs", [])
        draft = Draft(len(self.drafts), kind, op, **fields)
        for source in inputs:
            draft.add_input(source.id)
        if place is not None:
            draft.source = draft.source or (place.site and place.site.source)
            draft.frame = place.number
            draft.module = place.module
        draft.in_no_grad = not torch.is_grad_enabled()
        self.drafts.append(draft)
        return draft

    def flag(self, tensor: Tensor, draft: Draft) -> None:
        """Follow ``requires_grad_()``."""
        if tensor.requires_grad == draft.requires_grad:
            return
        draft.requires_grad = tensor.requires_grad
        draft.why = Why("set" if tensor.requires_grad else "unset")
        if draft.kind in ("leaf", "constant"):
            draft.kind = "leaf" if tensor.requires_grad else "constant"
        draft.edge = private.edge(tensor)
        self.gradients.register(draft, tensor)

    # -- tensors to nodes ------------------------------------------------------------------------

    def holds(self, tensor: Tensor) -> bool:
        """Whether this very version of a tensor has a node."""
        held = self._held.get(id(tensor))
        return held is not None and held.version == private.version(tensor)

    def draft_of(self, tensor: Tensor, name: str | None = None) -> Draft:
        """Return the node of a tensor as it is now; make one where it is new or was changed."""
        held = self._held.get(id(tensor))
        if held is None:
            return self._stranger(tensor, name)
        writer = self._writers.get(private.memory(tensor)) if self._writers else None
        if writer is None and held.version == private.version(tensor):
            return held.draft
        if writer is not None and writer.draft.id <= held.draft.id:
            return held.draft
        return self._changed(tensor, held, writer)

    def hold(self, tensor: Tensor, draft: Draft, *, end: bool = False) -> Draft:
        """Let a node stand for a tensor as it is now."""
        draft.edge = private.edge(tensor)
        draft.requires_grad = draft.edge is not None
        draft.value = take(tensor, self._keep)
        draft.version = private.version(tensor)
        base = private.base(tensor)
        owner = self._held.get(id(base)) if base is not tensor else None
        draft.view_of = owner.draft.id if owner else None
        self._held[id(tensor)] = Held(tensor, draft.version, draft)
        self.gradients.register(draft, tensor, end=end)
        return draft

    def written(self, tensor: Tensor, draft: Draft) -> Draft:
        """Let a node stand for a tensor that was just overwritten, and remember who wrote."""
        self.hold(tensor, draft)
        self._writers[private.memory(tensor)] = self._held[id(tensor)]
        return draft

    def before_write(self, tensor: Tensor, draft: Draft) -> tuple[Tensor, Draft]:
        """Return the tensor that owns the written memory, and its node before the write."""
        base = private.base(tensor)
        if base is tensor or id(base) not in self._held:
            return tensor, draft
        writer = self._writers.get(private.memory(base))
        if writer is not None and writer.tensor is base:
            return base, writer.draft
        return base, self._held[id(base)].draft

    def full_leaves(self) -> dict[GradEdge | None, int]:
        """Return the leaves whose ``.grad`` is not empty: their places, and their nodes now."""
        return {
            held.draft.edge: held.draft.id
            for held in self._held.values()
            if held.draft.is_leaf and held.tensor.is_leaf and held.tensor.grad is not None
        }

    # -- tensors that the trace did not see being made -------------------------------------------

    def _stranger(self, tensor: Tensor, name: str | None = None) -> Draft:
        if tensor.grad_fn is not None:
            return self._unseen(tensor, name)
        name = name or self._names.parameter(tensor)
        if private.edge(tensor) is None:
            why = Why("severed" if tensor.requires_grad else "outside")
            return self.hold(tensor, self.new("constant", "", name=name, why=why))
        kind = "parameter" if isinstance(tensor, nn.Parameter) else ""
        draft = self.new("leaf", "", name=name, why=Why("leaf", kind))
        if tensor.grad is not None:
            draft.stale_grad = take(tensor.grad, self._keep)
        return self.hold(tensor, draft)

    def _unseen(self, tensor: Tensor, name: str | None) -> Draft:
        """Make one honest card for all that happened out of sight."""
        node: AutogradNode = tensor.grad_fn
        cls = private.forward_class(node)
        if cls is not None:
            for step in self.pending:
                if step.custom is cls and self._came_from(step, node):
                    return self._custom(step, cls, tensor)
        number = private.sequence(node)
        earlier = number is not None and number < self._first_sequence
        inputs, leaves, n_nodes = self.gradients.ancestors(node)
        if not earlier:
            inputs += [self._stranger(leaf) for leaf in leaves]
        draft = self.new(
            "op" if cls else "hidden",
            f"{cls.__name__}.apply" if cls else "unseen",
            inputs=inputs,
            name=name,
            custom=described(cls) if cls else None,
            why=Why("earlier", node.name()) if earlier else Why("hidden", _count(n_nodes)),
        )
        draft.in_no_grad = False
        self.gradients.link(draft, [tensor] if inputs else [])
        return self.hold(tensor, draft, end=not inputs)

    def _came_from(self, step: Step, node: Any) -> bool:
        places = {draft.edge for draft in step.drafts}
        return all(edge[0] is None or edge in places for edge in node.next_functions)

    def _custom(self, step: Step, cls: type, tensor: Tensor) -> Draft:
        draft = self.new(
            *("op", step.text, step.place),
            inputs=step.drafts,
            call=step.call,
            custom=described(cls),
            why=why(step, tensor),
            name=step.place.site and step.place.site.source.target,
        )
        self.gradients.link(draft, [tensor])
        return self.hold(tensor, draft)

    def _changed(self, tensor: Tensor, held: Held, writer: Held | None) -> Draft:
        """Make the node of a tensor that was changed through another name for its memory."""
        old = held.draft
        family = writer is not None and private.base(tensor) is private.base(writer.tensor)
        if writer is None:
            draft = self.new("op", "changed", inputs=[old], why=Why("changed_unseen"))
        elif family:
            draft = self.new(
                "op", old.op, inputs=[writer.draft], why=Why("view", nodes=(writer.draft.id,))
            )
        else:
            why = Why("changed", nodes=(writer.draft.id,))
            draft = self.new("op", "changed", inputs=[old, writer.draft], why=why)
        shown = old if family or writer is None else writer.draft
        draft.name, draft.source, draft.frame = old.name, shown.source, shown.frame
        draft.writes = old.id
        self.gradients.link(draft, [tensor])
        return self.hold(tensor, draft)


def _count(n: int) -> str:
    return f"{n} autograd node{'' if n == 1 else 's'}"
