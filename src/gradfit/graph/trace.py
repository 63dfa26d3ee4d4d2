"""Run a function once, as it is, and write down what autograd did."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from inspect import currentframe
from itertools import count
from typing import Any, cast

import torch
from torch import Tensor

from gradfit._format import shown
from gradfit.errors import TraceError
from gradfit.graph import autograd_private as private
from gradfit.graph.draft import Draft
from gradfit.graph.failures import failure_note
from gradfit.graph.functions import current, watched
from gradfit.graph.graph import Backward, Graph
from gradfit.graph.ledger import Ledger
from gradfit.graph.names import Names, title
from gradfit.graph.operations import alike, outputs
from gradfit.graph.place import Places
from gradfit.graph.reasons import in_words
from gradfit.graph.record import Call, Edge, Failed, Node, Ref
from gradfit.graph.recorder import Recorder, error_text
from gradfit.graph.snapshot import plus
from gradfit.graph.surroundings import undisturbed_in_place
from gradfit.graph.values import Snapshot


@undisturbed_in_place
def trace(
    fn: Callable[..., Any],
    *inputs: Any,
    keep: int = 100_000,
    max_nodes: int = 5000,
    **keywords: Any,
) -> Graph:
    """Run ``fn(*inputs, **keywords)`` once and return its computational graph.

    The function runs as it is: what it returns is equal bit for bit to a plain call, no ``.grad``
    is touched, and nothing stays changed, also after an exception. Gradients are those of what it
    returns (of the sum of all entries, where that is more than one number); where the function
    calls ``backward()`` itself, they are those of that pass.

    Parameters
    ----------
    fn : callable
        Any function of torch tensors, or an ``nn.Module``.
    *inputs : object
        Its arguments. Tensors are found inside lists, tuples and dicts too.
    keep : int
        Tensors with more entries than this are kept as statistics only.
    max_nodes : int
        Stop with an error when the graph grows beyond this.
    **keywords : object
        Keyword arguments of ``fn``.

    Returns
    -------
    Graph

    Raises
    ------
    TraceError
        ``fn`` is no function, another trace runs, or the graph grows too big.
    Exception
        What ``fn`` itself raises comes through unchanged, with a note of what broke, where, and
        what to write instead, and the graph up to there as its attribute ``graph``.

    Notes
    -----
    Every operation arrives at a ``TorchFunctionMode``; the place of its output in autograd's graph
    is kept, and hooks on autograd's nodes write down the gradient at each place, and the part on
    each edge, in one backward pass. ``torch.autograd.Function.apply`` is wrapped while a trace
    runs. Code that torch runs out of sight (compiled earlier, ``vmap``, C++) is one card.

    Examples
    --------
    >>> import torch
    >>> from gradfit.graph import trace
    >>> a = torch.tensor(0.5, requires_grad=True)
    >>> graph = trace(lambda a, x: torch.sum((a * x - 1) ** 2), a, torch.tensor([1.0, 2.0]))
    >>> graph["a"].grad
    -1
    >>> graph["a * x - 1"].value
    float32 (2,): [-0.5, 0]
    """
    if not callable(fn):
        raise TraceError(f"`fn` must be a function of tensors or a module; got {shown(fn)}")
    for name, value in (("keep", keep), ("max_nodes", max_nodes)):
        if not isinstance(cast(object, value), int) or value < 0:
            raise TraceError(f"`{name}` must be a whole number from 0 on; got {shown(value)}")
    if current.watcher is not None:
        raise TraceError("a trace runs already in this thread; trace one function at a time")
    names = Names(fn, inputs, keywords)
    ledger = Ledger(names, keep, max_nodes)
    recorder = Recorder(ledger, Places(currentframe(), names))
    state = torch.get_rng_state().numpy()
    try:
        given = {
            id(tensor): ledger.draft_of(tensor, name).id
            for name, tensor in sorted(names.inputs(), key=_has_history)
        }
        given_keywords = _referred(keywords, given)
        call = Call(title(fn), fn, _referred(inputs, given), given_keywords, state)
        try:
            with private.compiled_code_runs_eagerly(), watched(recorder), recorder:
                result = fn(*inputs, **keywords)
        except Exception as error:
            if not isinstance(error, TraceError):
                with suppress(Exception):  # the diagnosis must not hide what it speaks of
                    _annotate(error, ledger, recorder, call)
            raise
        returned = [tensor for _, tensor in outputs(result)]
        results = list(dict.fromkeys(ledger.draft_of(tensor).id for tensor in returned))
        if not recorder.backwards:
            recorder.backwards.extend(_pull(ledger, returned))
    finally:
        ledger.gradients.stop()
        recorder.forget()
    for name, parameter in names.parameters():
        ledger.draft_of(parameter, name)
    return _built(ledger, results, recorder.backwards, call, _detached(result))


def _annotate(error: Exception, ledger: Ledger, recorder: Recorder, call: Call) -> None:
    """Attach the graph so far to an exception, and a note of cause, place and remedy."""
    ledger.gradients.stop()
    failed = recorder.failed(error)
    graph = _built(ledger, (), recorder.backwards, call, None, failed)
    setattr(error, "graph", graph)  # noqa: B010 - an exception of any class
    note = failure_note(graph)
    if note:
        error.add_note(note)


def _has_history(named: tuple[str, Tensor]) -> bool:
    """Leaves come first: what was computed from them before the trace hangs on them."""
    return named[1].grad_fn is not None


def _pull(ledger: Ledger, returned: Sequence[Tensor]) -> Iterator[Backward]:
    """Run the backward pass that the function left to its caller."""
    roots = [tensor for tensor in returned if tensor.requires_grad]
    if not roots:
        return
    nodes = tuple([ledger.draft_of(tensor).id for tensor in roots])
    full = ledger.full_leaves()
    try:
        reached = ledger.gradients.pull(roots)
    except Exception as error:  # noqa: BLE001 - a backward of the user raises what it likes
        ledger.gradients.forget()
        yield Backward(nodes, error=error_text(error))
    else:
        yield Backward(nodes, uncleared=tuple(sorted(full[e] for e in reached if e in full)))


def _built(
    ledger: Ledger,
    results: Sequence[int],
    backwards: Sequence[Backward],
    call: Call,
    result: Any,
    failed: Failed | None = None,
) -> Graph:
    ledger.gradients.settle()
    drafts = ledger.drafts
    broke = any(backward.error for backward in backwards)
    labels = [_label(draft) for draft in drafts]
    parts = _parts(drafts, labels)
    nodes = [
        Node(
            id=draft.id,
            kind=draft.kind,
            op=draft.op,
            name=draft.name,
            value=draft.value,
            grad=draft.grad,
            parts=parts[draft.id],
            requires_grad=draft.requires_grad,
            reason=in_words(draft.why, labels),
            source=draft.source,
            inputs=tuple(map(Edge, draft.inputs, count(), draft.parts, draft.flows)),
            writes=draft.writes,
            view_of=draft.view_of,
            output=draft.output,
            version=draft.version,
            in_no_grad=draft.in_no_grad and draft.kind == "op",
            read_answer=draft.read_answer,
            answer=draft.answer,
            stale_grad=draft.stale_grad,
            saved_overwritten=_overwritten(draft) if broke else (),
            custom=draft.custom,
            module=draft.module,
            frame=draft.frame,
            autograd_nodes=tuple([node.name() for node in draft.autograd_nodes]),
            is_result=draft.id in results,
            call=draft.call,
        )
        for draft in drafts
    ]
    missed = tuple(f"{name}: {why}" for name, why in ledger.guarded.missed.items())
    return Graph(
        tuple(nodes), tuple(results), call.name, tuple(backwards), result, call, missed, failed
    )


def _label(draft: Draft) -> str:
    expr = draft.source.expr if draft.source else ""
    return draft.name or expr or draft.op or f"#{draft.id}"


def _parts(drafts: Sequence[Draft], labels: Sequence[str]) -> list[dict[str, Snapshot]]:
    """Collect for each node what its uses add to its gradient, by the text of the use."""
    parts: list[dict[str, Snapshot]] = [{} for _ in drafts]
    for draft in drafts:
        text = (draft.source.expr if draft.source else "") or labels[draft.id]
        own: dict[int, Snapshot] = {}
        for source, part in zip(draft.inputs, draft.parts, strict=True):
            if part is not None:
                own[source] = plus(own.get(source), part)
        for source, part in own.items():
            n = sum(key == text or key.startswith(f"{text} (") for key in parts[source])
            parts[source][f"{text} ({n + 1})" if n else text] = part
    return parts


def _overwritten(draft: Draft) -> tuple[str, ...]:
    found = (name for node in draft.autograd_nodes for name in private.overwritten(node))
    return tuple(dict.fromkeys(found))


def _referred(value: Any, given: dict[int, int]) -> Any:
    if isinstance(value, Tensor):
        return Ref(given[id(value)])
    if isinstance(value, (list, tuple)):
        return alike(value, [_referred(each, given) for each in value])
    if isinstance(value, dict):
        return {key: _referred(each, given) for key, each in value.items()}
    return value


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if is_dataclass(value) and not isinstance(value, type):
        made = copy.copy(value)
        for field in fields(value):  # frozen ones too
            object.__setattr__(made, field.name, _detached(getattr(value, field.name)))
        if isinstance(made, dict):  # such as the outputs of Hugging Face's models
            _refill(made, value)
        return made
    if isinstance(value, dict):
        made = copy.copy(value)
        _refill(made, value)
        return made
    if isinstance(value, (list, tuple)):
        return alike(value, [_detached(each) for each in value])
    return value


def _refill(made: dict[Any, Any], value: Any) -> None:
    """Fill a copy of a mapping, whatever its own type is, with detached values."""
    for key, each in value.items():
        made[key] = _detached(each)
