"""Watch every torch operation of one run, and draft a node for each tensor that comes out."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from traceback import walk_tb
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradfit.graph import autograd_private as private
from gradfit.graph.draft import Draft, Step, Why
from gradfit.graph.functions import described
from gradfit.graph.graph import Backward
from gradfit.graph.ledger import Ledger
from gradfit.graph.operations import APPLY, Operation, operation, outputs
from gradfit.graph.place import Place, Places, is_library
from gradfit.graph.reasons import why, why_written
from gradfit.graph.record import Call, Failed, Ref, references
from gradfit.graph.values import number_text


class Failure(NamedTuple):
    """The operation in which the traced function raised, and what it raised."""

    step: Step
    error: Exception


def error_text(error: Exception) -> str:
    """Return what an exception says, with its type where that is not the usual one of torch."""
    kind = "" if isinstance(error, RuntimeError) else f"{type(error).__name__}: "
    return f"{kind}{error}"


class Recorder(TorchFunctionMode):
    """Drafts nodes while a function runs."""

    def __init__(self, ledger: Ledger, places: Places) -> None:
        super().__init__()
        self.backwards: list[Backward] = []
        self.failure: Failure | None = None
        self._ledger = ledger
        self._places = places
        self._applied: dict[FrameType, Step] = {}  # custom Functions seen on the stack only
        self._last: tuple[FrameType, Draft] | None = None
        self._none_grads: list[tuple[int, int | None]] = []
        self._inside = False

    def failed(self, error: Exception) -> Failed:
        """Describe where the traced function raised."""
        text = f"{type(error).__name__}: {error}"
        line = _users_line(error)
        failure = self.failure
        if failure is None or failure.error is not error:
            return Failed("", text, line=line, none_grads=tuple(self._none_grads))
        step = failure.step
        inputs = tuple(draft.id for draft in step.drafts)
        source = step.place.site and step.place.site.source
        return Failed(step.text, text, inputs, source, line)

    def forget(self) -> None:
        """Let go of all frames."""
        self.failure = None
        self._places.forget()
        self._applied.clear()
        self._last = None

    # -- what torch calls ------------------------------------------------------------------------

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        what = operation(func)
        if self._inside or what.role == "silent" or private.in_transform():
            return func(*args, **kwargs)
        run = partial(func, *args, **kwargs)
        frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        place = self._ledger.guarded(what.name, self._places.at, frame)
        if place is not None and place.apply is not None:
            self._ledger.guarded(what.name, self._saw_custom, place.apply)
            return run()
        if place is None or place.is_transform:
            return run()
        return self._record(what, place, run)

    def custom(self, cls: type, run: "partial[Any]") -> Any:
        """Run a custom Function as one operation; its inner operations are its own affair."""
        if self._inside or private.in_transform():
            return run()
        self._inside = True
        try:
            frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
            place = self._ledger.guarded(cls.__name__, self._places.at, frame)
            return run() if place is None else self._record(APPLY, place, run, cls)
        finally:
            self._inside = False

    def _record(
        self, what: Operation, place: Place, run: "partial[Any]", custom: type | None = None
    ) -> Any:
        """Run an operation and write it down; the bookkeeping never stops the function."""
        step = self._ledger.guarded(what.name, self._before, what, place, run, custom)
        if step is None:
            return run()
        if what.role == "backward":
            return self._backward(step, run)
        inside, self._inside = self._inside, True  # what it applies is its own affair
        try:
            result = run()
        except Exception as error:
            self.failure = Failure(step, error)
            raise
        finally:
            self._inside = inside
        self._ledger.guarded(what.name, self._after, step, result)
        return result

    def _before(
        self, what: Operation, place: Place, run: "partial[Any]", custom: type | None
    ) -> Step:
        tensors: list[Tensor] = []
        path = what.path if custom is None else f"{custom.__name__}.apply"
        state = torch.get_rng_state().numpy() if what.is_random else None
        args = self._referred(run.args, tensors)
        kwargs = self._referred(run.keywords, tensors)
        drafts = [self._ledger.draft_of(tensor) for tensor in tensors]
        call = Call(path, run.func, args, kwargs, state)
        _name_operands(place, tensors, drafts)
        _name_unseen(place, drafts)
        versions = [private.version(tensor) for tensor in tensors]
        return Step(what, place, tensors, drafts, versions, call, custom)

    def _referred(self, value: Any, tensors: list[Tensor]) -> Any:
        """Replace tensors by references to their nodes, and list them."""
        if isinstance(value, Tensor):
            tensors.append(value)
            return Ref(self._ledger.draft_of(value).id)
        if isinstance(value, tuple):
            return tuple([self._referred(each, tensors) for each in value])
        if isinstance(value, list):
            return [self._referred(each, tensors) for each in value]
        if isinstance(value, dict):
            return {key: self._referred(each, tensors) for key, each in value.items()}
        if isinstance(value, slice):
            parts = (value.start, value.stop, value.step)
            return slice(*[self._referred(part, tensors) for part in parts])
        return value

    # -- what came out ---------------------------------------------------------------------------

    def _after(self, step: Step, result: Any) -> None:
        if step.what.role == "read":
            self._read(step, result)
        elif step.what.role == "flag":
            self._ledger.flag(step.tensors[0], step.drafts[0])
        elif step.what.role == "gradient":
            self._gradient(step, result)
        else:
            self._operation(step, result)

    def _operation(self, step: Step, result: Any) -> None:
        given = [id(tensor) for tensor in step.tensors]
        fresh = [(label, t) for label, t in outputs(result) if id(t) not in given]
        written = _written(step)
        if len(fresh) == 1:
            head = self._output(step, fresh[0][1])
        elif not fresh and len(written) == 1:
            self._write(step, *written[0], head=None)
            return
        elif fresh or written:
            head = self._head(step, fresh)
        else:
            return
        for tensor, draft in written:
            self._write(step, tensor, draft, head=head)

    def _new(self, step: Step, reason: Why, **fields: Any) -> Draft:
        """Draft the operation itself."""
        draft = self._ledger.new(
            fields.pop("kind", "op"),
            step.text,
            step.place,
            inputs=fields.pop("inputs", step.drafts),
            call=step.call,
            custom=step.custom and described(step.custom),
            why=reason,
            **fields,
        )
        self._own_expression(step.place, draft)
        return draft

    def _output(self, step: Step, tensor: Tensor) -> Draft:
        edge = private.edge(tensor)
        made_here = edge is not None and private.is_accumulator(edge[0])
        kind = "leaf" if made_here else "op" if step.drafts else "constant"
        draft = self._new(step, why(step, tensor), kind=kind)
        if step.place.site is not None:
            draft.name = step.place.site.source.target
        self._ledger.gradients.link(draft, [tensor])
        return self._ledger.hold(tensor, draft)

    def _head(self, step: Step, fresh: list[tuple[str, Tensor]]) -> Draft:
        """Draft an operation with several outputs, and each output."""
        tensors = [tensor for _, tensor in fresh]
        needing = [tensor for tensor in tensors if tensor.requires_grad]
        head = self._new(step, why(step, (needing or tensors)[0]) if fresh else Why(""))
        head.requires_grad = bool(needing)
        self._ledger.gradients.link(head, tensors)
        site = step.place.site
        names = site.targets if site and len(site.targets) == len(fresh) else ()
        for index, (label, tensor) in enumerate(fresh):
            reason = Why("because", nodes=(head.id,)) if tensor.requires_grad else why(step, tensor)
            each = self._ledger.new(
                *("op", step.text + label, step.place), inputs=[head], why=reason, output=index
            )
            if site and site.source.expr:
                each.op = label
                each.source = replace(site.source, expr=site.source.expr + label)
                whole = site.source.target and site.source.target + label
                each.name = names[index] if names else whole
            each.flows[0] = tensor.requires_grad
            self._ledger.hold(tensor, each)
        return head

    def _write(self, step: Step, tensor: Tensor, draft: Draft, head: Draft | None) -> None:
        """Draft the next version of memory that was written in place."""
        owner, old = self._ledger.before_write(tensor, draft)
        inputs = list(step.drafts) if head is None else [head]
        if old not in inputs:
            inputs.append(old)
        reason = why_written(step, owner, old)
        if head is None:
            new = self._new(step, reason, inputs=inputs, name=old.name, writes=old.id)
        else:
            new = self._ledger.new(
                *("op", "written", step.place),
                inputs=inputs,
                name=old.name,
                writes=old.id,
                why=reason,
            )
        self._ledger.gradients.link(new, [owner])
        self._ledger.written(owner, new)

    def _read(self, step: Step, answer: Any) -> None:
        if isinstance(answer, np.ndarray):
            text = f"array {answer.shape}"
        elif isinstance(answer, (bool, int, float, complex)):
            text = number_text(answer)
        else:
            text = repr(answer)
        text = text if len(text) <= 40 else f"{text[:37]}..."
        kept = np.array(answer) if isinstance(answer, np.ndarray) else answer
        self._new(step, Why("read"), kind="read", read_answer=text, answer=kept)

    def _gradient(self, step: Step, gradient: Tensor | None) -> None:
        """Note that ``.grad`` was read."""
        if gradient is None:
            site = step.place.site
            self._none_grads.append((step.drafts[0].id, site.source.line if site else None))
        if gradient is None or self._ledger.holds(gradient):
            return
        draft = self._new(step, Why("finished"))
        draft.name = step.drafts[0].name and f"{step.drafts[0].name}.grad"
        self._ledger.hold(gradient, draft)

    def _backward(self, step: Step, run: Callable[[], Any]) -> Any:
        """Listen to a backward pass that the function runs itself."""
        full = self._ledger.full_leaves()
        roots = tuple(references(step.call.args[:1]))
        source = step.place.site and step.place.site.source
        given = step.call.kwargs.get("gradient", step.call.kwargs.get("grad_tensors"))
        try:
            with self._ledger.gradients.listening() as reached:
                result = run()
        except Exception as error:
            self.failure = Failure(step, error)
            passed = Backward(roots, source, given is not None, error=error_text(error))
            self.backwards.append(passed)
            raise
        uncleared = tuple(sorted(full[edge] for edge in reached if edge in full))
        self.backwards.append(Backward(roots, source, given is not None, uncleared))
        return result

    # -- custom Functions seen on the stack only -------------------------------------------------

    def _saw_custom(self, frame: FrameType) -> None:
        """Note a custom Function called through an alias of ``apply`` saved before the trace."""
        if frame in self._applied:
            return
        cls, args = frame.f_locals.get("cls"), frame.f_locals.get("args", ())
        if not isinstance(cls, type):
            return
        place = self._places.at(frame.f_back)
        run = partial(getattr(cls, "apply"), *args)  # noqa: B009 - a plain type has no apply
        self._applied[frame] = self._before(APPLY, place, run, cls)
        self._ledger.pending.append(self._applied[frame])

    # -- names -----------------------------------------------------------------------------------

    def _own_expression(self, place: Place, draft: Draft) -> None:
        """Of the operations inside one library call only the last one is the user's expression."""
        call, claim = place.library_call, self._last
        if claim is not None and (
            claim[0] is call or self._places.is_inside(place.caller, claim[0])
        ):
            earlier = claim[1]
            if earlier.source is not None:
                if earlier.name == earlier.source.target:
                    earlier.name = None
                plain = replace(earlier.source, expr="", target=None, is_whole_rhs=False)
                earlier.source = plain
        self._last = None if call is None else (call, draft)


def _users_line(error: Exception) -> int | None:
    """Return the line of the innermost frame of a traceback that is not inside a library."""
    lines = [
        number
        for frame, number in walk_tb(error.__traceback__)
        if not is_library(frame.f_code.co_filename)
    ]
    return lines[-1] if lines else None


def _written(step: Step) -> list[tuple[Tensor, Draft]]:
    """Return the tensors that an operation wrote in place, each memory once."""
    found: dict[int, tuple[Tensor, Draft]] = {}
    for tensor, draft, version in zip(step.tensors, step.drafts, step.versions, strict=True):
        if private.version(tensor) != version or step.what.name == "detach_":
            found[id(private.base(tensor))] = tensor, draft
    return list(found.values())


def _name_operands(place: Place, tensors: list[Tensor], drafts: list[Draft]) -> None:
    """Name tensors after the variables that stand in the expression, where they are the same."""
    if place.site is None or place.caller is None:
        return
    known = [draft.name for draft in drafts]
    if None not in known:
        return
    for path in place.site.operands:
        if path.text in known:
            continue
        found = path.look_up(place.caller)
        for tensor, draft in zip(tensors, drafts, strict=True):
            if found is tensor and draft.name is None:
                draft.name = path.text


def _name_unseen(place: Place, drafts: list[Draft]) -> None:
    """Show what came from out of sight as the call in the expression that can have made it."""
    unseen = [draft for draft in drafts if draft.kind == "hidden" and not draft.name]
    if not unseen or place.site is None:
        return
    known = {draft.source.expr for draft in drafts if draft.source is not None}
    calls = [call for call in place.site.calls if call.expr not in known]
    if len(unseen) == len(calls) == 1:
        unseen[0].source, unseen[0].frame = calls[0], place.number
