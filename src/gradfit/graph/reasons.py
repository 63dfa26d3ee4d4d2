"""Why a tensor requires grad, or does not: decided when it is made, put into words at the end."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gradfit.graph import autograd_private as private
from gradfit.graph.draft import Draft, Step, Why

_CUTS = {"detach", "detach_", "data", "grad", "tensor", "as_tensor", "from_numpy"}


def why(step: Step, tensor: Tensor) -> Why:
    """Decide why the tensor that an operation made requires grad, or does not."""
    needing = [draft for draft in step.drafts if draft.requires_grad]
    if private.edge(tensor) is not None:
        return _why_needed(tensor, needing)
    if not needing:
        return Why("no_input" if step.drafts else "made_here")
    if step.what.name in _CUTS:
        return Why("cut", step.text)
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return Why("integer", str(tensor.dtype).removeprefix("torch."))
    if torch.is_inference_mode_enabled():
        return Why("inference", nodes=(needing[0].id,))
    if not torch.is_grad_enabled():
        return Why("no_grad", nodes=(needing[0].id,))
    return Why("no_derivative", step.text)


def why_written(step: Step, owner: Tensor, old: Draft) -> Why:
    """Decide the same for the next version of memory that was written in place."""
    if private.edge(owner) is None:
        return why(step, owner)
    if not torch.is_grad_enabled():
        return Why("written_unrecorded")
    needing = [draft for draft in (old, *step.drafts) if draft.requires_grad]
    return _why_needed(owner, needing)


def _why_needed(tensor: Tensor, needing: Sequence[Draft]) -> Why:
    if tensor.grad_fn is None:
        return Why("leaf", "made")
    if not needing:
        return Why("inside")
    return Why("because", nodes=tuple([draft.id for draft in needing]))


def in_words(reason: Why, labels: Sequence[str]) -> str:
    """Write a reason as a sentence about "it"."""
    case, detail, nodes = reason
    if case == "because":
        names = list(dict.fromkeys([f"`{labels[node]}`" for node in nodes]))
        return f"requires grad because {_and(names)} {'does' if len(names) == 1 else 'do'}"
    if nodes:
        return _SENTENCES[case].format(f"`{labels[nodes[0]]}`")
    if case == "leaf":
        return _LEAVES[detail]
    return _SENTENCES[case].format(detail)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


_LEAVES = {
    "": "a leaf that requires grad: you set requires_grad=True",
    "parameter": "a leaf that requires grad: nn.Parameter sets requires_grad=True",
    "made": "a leaf that requires grad: made here with requires_grad=True",
}
_SENTENCES = {
    "": "",
    "outside": "came in without requires_grad=True",
    "severed": "says requires_grad, but no gradient reaches it (a view made under no_grad)",
    "made_here": "made here without requires_grad=True",
    "no_input": "no input requires grad",
    "cut": "`{}` cuts the graph here: what went in requires grad, what comes out does not",
    "integer": "{} values have no derivative",
    "no_derivative": "`{}` has no derivative",
    "no_grad": "no_grad: {} requires grad, but recording was off",
    "inference": "inference mode: {} requires grad, but recording was off",
    "changed": "changed through another name for its memory, by {}",
    "view": "a view of memory that was written since, by {}",
    "written_unrecorded": "requires grad as before, but this write was not recorded (no_grad)",
    "inside": "requires grad because of something the trace cannot see",
    "set": "requires grad because requires_grad was switched on here",
    "unset": "requires_grad was switched off here",
    "finished": "`.grad` holds a finished gradient; nothing is recorded through it",
    "changed_unseen": "changed by something the trace cannot see",
    "earlier": "computed before the trace began, or in another thread (by {})",
    "hidden": "not seen by the trace: {}",
    "read": "Python looked at the number here; no gradient passes",
}
