"""Write down what a model computes, operation by operation, on two points.

The model runs once, on real tensors, under a ``TorchFunctionMode``: beside each tensor goes an
array with one scalar expression per element. Two points, each with its own symbols, show whether
the model mixes points. The mode works above torch's dispatcher: going below it would need no table
of functions, but the first use of a dispatch mode in a process imports a second's worth of
packages, and ``make_fx`` twice that, where this takes a millisecond.

A custom ``autograd.Function`` shows itself by the ``grad_fn`` of what comes out. Its forward is
seen as plain operations; for its derivative its own ``backward`` runs under the same mode.

What cannot be written down raises :class:`CaptureError` with the reason. Nothing is trusted: the
expressions are compared with torch in value, first and second derivatives at both points.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradfit._native.expression import CaptureError, Pool, Term, Terms, lift
from gradfit._native.functions import MAKES, READS, RULES, SILENT, UNSET

LARGEST = 4096
"""Elements of a constant tensor that are unrolled."""


_NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim"}
"""Names of arguments that torch takes as well."""


@dataclass(eq=False, slots=True)
class Seen:
    """A tensor and the expressions of its elements.

    ``required`` is whether torch would give it a gradient when it was made.
    """

    tensor: Tensor
    version: int
    required: bool
    terms: Terms


class Recorder(TorchFunctionMode):
    """Keeps the expressions of every tensor while a model runs."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.pool = pool
        self.refusal: CaptureError | None = None
        # Holding the tensors keeps their identities from being used again.
        self._seen: dict[int, Seen] = {}
        self._places: dict[tuple[Any, ...], Seen] = {}
        self._edges: dict[tuple[Any, int], Terms] = {}
        self._plain: dict[int, Tensor] = {}
        self.foreign: dict[int, Tensor] = {}
        """Constants that no function was seen to make: the model had them before it ran, or they
        come from code that does not show itself (``torch.jit.script``, extensions)."""

    def track(self, tensor: Tensor, terms: Terms) -> None:
        """Remember the expressions of a tensor."""
        seen = Seen(tensor, tensor._version, tensor.requires_grad, terms)
        self._seen[id(tensor)] = seen
        self._places[_place(tensor)] = seen
        if tensor.grad_fn is not None:
            self._edges[tensor.grad_fn, tensor.output_nr] = terms

    def terms_of(self, tensor: Tensor) -> Terms | None:
        """Return the expressions of a tensor; None for a constant."""
        seen = self._seen.get(id(tensor))
        if seen is None:
            return self._found_elsewhere(tensor)
        if seen.version != tensor._version:
            raise CaptureError("it changes a tensor through a view of it")
        if tensor.requires_grad and not seen.required:
            self.track(tensor, self._adopt(tensor, seen.terms))
        return self._seen[id(tensor)].terms

    def _found_elsewhere(self, tensor: Tensor) -> Terms | None:
        """Know a tensor again that autograd saved, or find it to be a constant."""
        if _is_wrapped(tensor):
            raise CaptureError("it uses torch.func")
        place = self._places.get(_place(tensor))
        if place is not None:
            return self.terms_of(place.tensor)
        if tensor.grad_fn is not None and id(tensor) not in self._plain:
            raise CaptureError(f"{tensor.grad_fn.name()} cannot be seen from outside")
        # Memory that is not torch's own holds what NumPy made, which x never reaches.
        if id(tensor) not in self._plain and tensor.untyped_storage().resizable():
            self.foreign[id(tensor)] = tensor
        return None

    def _adopt(self, tensor: Tensor, terms: Terms) -> Terms:
        """Give what a custom Function returned a derivative of its own."""
        node = tensor.grad_fn
        if not isinstance(node, torch.autograd.function.BackwardCFunction):
            raise CaptureError("it asks for the gradient of something in the middle")
        sources = [self._at_edge(*edge) for edge in node.next_functions if edge[0] is not None]
        out: Terms = np.empty(terms.shape, dtype=object)
        for at in np.ndindex(terms.shape):
            value = cast(Term, terms[at])
            out[at] = self.pool.custom(value, Custom(self, node, tensor, at, sources))
        return out

    def _at_edge(self, node: Any, number: int) -> Terms | None:
        if hasattr(node, "variable"):
            return self.terms_of(node.variable)
        return self._edges.get((node, number))

    # -- what torch calls ------------------------------------------------------------------------

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        try:
            return self._run(func, _name(func), args, kwargs)
        except CaptureError as refusal:
            # The model may catch it and go another way; it is refused all the same.
            self.refusal = self.refusal or refusal
            raise

    def _run(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = list(_tensors((args, kwargs)))
        known = [self.terms_of(t) for t in tensors]
        made = name in MAKES and all(k is None for k in known[1:])
        if made or name in SILENT or all(k is None for k in known):
            result = func(*args, **kwargs)
            if name in UNSET:
                # What stands in it before it is written is no part of any model.
                result.zero_()
            self._plain.update((id(t), t) for t in _tensors(result))
            return result
        if name in READS:
            raise CaptureError(f"it looks at numbers ({name.strip('_')})")
        terms = self._follow(name, args, kwargs)
        result = func(*args, **kwargs)
        self._enter(args[0] if name == "__setitem__" else result, terms, name)
        return result

    def _follow(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        in_place = name.endswith("_") and not name.endswith("__")
        rule = RULES.get(name) or (RULES.get(name[:-1]) if in_place else None)
        if rule is None:
            raise CaptureError(f"it uses {name.strip('_')}")
        try:
            return rule(*self._translate(args), **self._translate(kwargs))
        except (TypeError, ValueError, KeyError, IndexError, StopIteration) as error:
            raise CaptureError(f"it uses {name.strip('_')} in an unusual way") from error

    def _translate(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            terms = self.terms_of(value)
            return self._constant(value) if terms is None else terms
        if isinstance(value, (tuple, list)):
            return type(value)(map(self._translate, value))
        if isinstance(value, dict):
            named = {_NUMPY_NAMES.get(k, k): v for k, v in value.items()}
            return {k: self._translate(v) for k, v in named.items() if k not in ("out", "dtype")}
        return value

    def _constant(self, tensor: Tensor) -> Terms:
        if tensor.numel() > LARGEST:
            raise CaptureError(f"it holds a tensor of {tensor.numel()} numbers")
        if tensor.is_complex():
            raise CaptureError("it computes with complex numbers")
        return self.pool.array(tensor.detach().cpu().numpy())

    def _enter(self, result: Any, terms: Any, name: str) -> None:
        if not isinstance(result, Tensor):
            if not isinstance(result, (tuple, list)):
                raise CaptureError(f"it looks at numbers ({name.strip('_')})")
            for r, t in zip(result, terms, strict=True):
                self._enter(r, t, name)
            return
        if result.shape != terms.shape:
            raise CaptureError(f"it uses {name.strip('_')} in an unusual way")
        if result.dtype not in (torch.float64, torch.bool):
            known: dict[Term, Term] = {}
            terms = lift(lambda t: _held(t, result.dtype, known), terms)
        if not result.requires_grad:
            terms = lift(lambda t: t.at("stop") if t.marks and not t.is_bool else t, terms)
        self.track(result, terms)


@dataclass(frozen=True, eq=False, slots=True)
class Custom:
    """The backward of a custom Function, for one element of what it returned."""

    recorder: Recorder
    node: Any
    tensor: Tensor
    at: tuple[int, ...]
    inputs: list[Terms | None]

    @property
    def sources(self) -> list[Term]:
        """The elements of all inputs."""
        return [t for terms in self.inputs if terms is not None for t in terms.flat]

    @property
    def kind(self) -> tuple[Any, ...]:
        """What it has in common with that of the same model when it runs again."""
        return self.node._forward_cls, self.at

    def pull(self, g: Term) -> Iterator[tuple[Term, Term]]:
        """Run the backward on real numbers, and give what it computes as expressions."""
        pool, recorder = self.recorder.pool, self.recorder
        grads: list[Tensor] = []
        for number, meta in enumerate(self.node._input_metadata):
            grad = torch.zeros(meta.shape, dtype=torch.float64, device="cpu")
            if number == self.tensor.output_nr:
                grad[self.at] = float(g.number)
                grad.requires_grad_()
                terms = lift(lambda _: pool.constant(0.0), np.empty(grad.shape, dtype=object))
                terms[self.at] = g
                recorder.track(grad, terms)
            grads.append(grad)
        found = self._call(grads)
        wanted = [r for r, need in zip(found, self.node.needs_input_grad, strict=True) if need]
        for result, source in zip(wanted, self.inputs, strict=True):
            if result is not None and source is not None:
                yield from self._pairs(result, source)

    def _call(self, grads: list[Tensor]) -> tuple[Any, ...]:
        try:
            with torch.enable_grad(), self.recorder:
                found = self.node._forward_cls.backward(self.node, *grads)
        except CaptureError:
            raise
        except Exception as error:
            name = self.node._forward_cls.__name__
            raise CaptureError(f"the backward of {name} cannot be followed") from error
        return found if isinstance(found, tuple) else (found,)

    def _pairs(self, result: Tensor, source: Terms) -> Iterator[tuple[Term, Term]]:
        terms = self.recorder.terms_of(result)
        if terms is None:
            terms = self.recorder.pool.array(result.detach().numpy())
        if terms.shape != source.shape:
            raise CaptureError(f"the backward of {self.node._forward_cls.__name__} changes shape")
        yield from zip(source.flat, terms.flat, strict=True)


def _held(term: Term, dtype: torch.dtype, known: dict[Term, Term]) -> Term:
    """Return a choice between constants with each as a tensor of another kind holds it.

    That is what masks and ``torch.where`` of two numbers are; whatever else is computed in single
    precision has rounding errors that no expression has. ``known`` keeps what was found.
    """
    if term not in known:
        known[term] = _hold(term, dtype, known)
    return known[term]


def _hold(term: Term, dtype: torch.dtype, known: dict[Term, Term]) -> Term:
    pool, args = term.pool, term.args
    if term.op == "const":
        return pool.constant(
            torch.tensor(term.number, dtype=torch.float64, device="cpu").to(dtype).item()
        )
    if term.is_bool:
        return term.as_float()
    if term.op == "stop":
        return _held(args[0], dtype, known)
    if term.op == "where":
        return pool.make("where", (args[0], *(_held(a, dtype, known) for a in args[1:])))
    if term.op in _EXACT:
        args = tuple(_held(a, dtype, known) for a in args)
        for k, choice in enumerate(args):
            if choice.op == "where":
                condition, *choices = choice.args
                each = (pool.make(term.op, (*args[:k], c, *args[k + 1 :])) for c in choices)
                return pool.make("where", (condition, *(_held(t, dtype, known) for t in each)))
    raise CaptureError(f"it computes in {str(dtype).removeprefix('torch.')}")


_EXACT = frozenset({"add", "sub", "mul", "div", "neg", "abs", "maximum", "minimum"})
"""Operations whose results are rounded but once, so that rounding them again is as good."""

_is_wrapped: Callable[[Tensor], bool] = cast(Any, torch)._C._functorch.is_functorch_wrapped_tensor
"""Whether a tensor stands for another inside ``torch.func``."""


def _place(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


def _name(func: Any) -> str:
    qualified = getattr(func, "_qualified_op_name", "aten::")
    if not qualified.startswith("aten::"):
        return qualified
    name = getattr(func, "__name__", type(func).__name__)
    if name == "where" and func is not torch.where:
        return "Tensor.where"
    return getattr(func.__self__, "__name__", name) if name == "__get__" else name


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _tensors(each)
