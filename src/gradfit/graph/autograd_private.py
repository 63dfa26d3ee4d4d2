"""Every name of torch that is not public, each with what to do when it is gone.

A test calls each of them, so that a new torch that drops one says so.
"""

import importlib
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

AutogradNode = Any  # torch.autograd.graph.Node, whose concrete classes are made in C++


def version(tensor: Tensor) -> int:
    """How often the memory of a tensor was written; 0 for tensors that do not count."""
    try:
        return tensor._version
    except (AttributeError, RuntimeError):  # inference tensors keep no count
        return 0


def base(tensor: Tensor) -> Tensor:
    """Return the tensor that a view looks into, or the tensor itself."""
    owner = getattr(tensor, "_base", None)
    return tensor if owner is None else owner


def memory(tensor: Tensor) -> int:
    """Return a number that tensors share exactly when they share memory."""
    try:
        return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]
    except (AttributeError, RuntimeError, NotImplementedError):  # sparse, or a wrapper
        return -id(tensor)


def edge(tensor: Tensor) -> "tuple[AutogradNode, int] | None":
    """Return the place of a tensor in autograd's graph: a node, and which of its outputs.

    ``None`` where nothing would ever arrive: the tensor does not require grad, or it only says
    so. A view made under ``no_grad`` has ``requires_grad=True`` and no place in the graph.
    """
    if not tensor.requires_grad:
        return None
    try:
        if tensor.grad_fn is not None:
            return tensor.grad_fn, tensor.output_nr
        return get_gradient_edge(tensor).node, 0
    except (AssertionError, RuntimeError):
        return None


def forward_class(node: AutogradNode) -> type | None:
    """Return the custom ``autograd.Function`` that an autograd node belongs to."""
    return getattr(node, "_forward_cls", None)


def sequence(node: AutogradNode) -> int | None:
    """Return the number that autograd gave a node when it was made; later ones are larger."""
    number = getattr(node, "_sequence_nr", None)
    return None if number is None else number()


def sequence_now() -> int:
    """Return the number that autograd will give to the next node."""
    now = getattr(torch.autograd, "_get_sequence_nr", None)
    return 0 if now is None else now()


def in_transform() -> bool:
    """Whether ``vmap``, ``torch.func.grad`` and the like are rewriting what runs."""
    return _peek() is not None


def _no_transform() -> None:
    return None


_functorch = getattr(getattr(torch, "_C", None), "_functorch", None)
_peek = getattr(_functorch, "peek_interpreter_stack", _no_transform)


TRANSFORM_FILES = frozenset(
    str(Path(torch.__file__).parent / "_functorch" / name)
    for name in ("apis.py", "eager_transforms.py", "vmap.py")
)
"""Where the steps of ``vmap``, ``torch.func.jacrev`` and the like are written."""


def is_accumulator(node: AutogradNode) -> bool:
    """Whether an autograd node is the end of the graph at a leaf."""
    return hasattr(node, "variable")


def overwritten(node: AutogradNode) -> tuple[str, ...]:
    """Name the values that a backward saved and that were written since.

    Autograd refuses to hand out such a value, which is how it is found.
    """
    names = [name for name in dir(node) if name.startswith("_saved_")]
    if forward_class(node) is not None:
        names.append("saved_tensors")
    return tuple(name.removeprefix("_saved_") for name in names if _refuses(node, name))


def _refuses(node: AutogradNode, name: str) -> bool:
    try:
        getattr(node, name)
    except RuntimeError as error:
        return "inplace" in str(error)
    except AttributeError:
        return False
    return False


def _code(owner: Any, name: str) -> CodeType | None:
    function = getattr(owner, name, None)
    return getattr(getattr(function, "__func__", function), "__code__", None)


APPLY_CODE = _code(torch.autograd.Function, "apply")
"""The code of ``Function.apply``: its frame on the stack means that a custom forward is running."""

MODULE_CALL_CODE = _code(torch.nn.Module, "_call_impl")
"""The code through which every module is called: its frame on the stack names the module."""


@contextmanager
def compiled_code_runs_eagerly() -> Generator[None, None, None]:
    """Make compiled callables run as they were written, where the compiler is loaded at all."""
    if "torch._dynamo" not in sys.modules or not hasattr(torch.compiler, "set_stance"):
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def kernels_run() -> Generator[list[str], None, None]:
    """List the ATen operations that run inside, as autograd's kernels call them."""
    names: list[str] = []
    try:
        from torch.utils._python_dispatch import TorchDispatchMode
    except ImportError:
        yield names
        return

    class Listing(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            names.append(getattr(func, "overloadpacket", func).__name__)
            return func(*args, **(kwargs or {}))

    with Listing():
        yield names


def dynamo_graphs(
    function: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> tuple[list[Any], list[tuple[int | None, str]]]:
    """Return the graphs that ``torch.compile`` cuts a function into, and why: line and reason."""
    explain = getattr(importlib.import_module("torch._dynamo"), "explain", None)
    if explain is None:
        return [], []
    found = explain(function)(*arguments, **keywords)
    breaks: list[tuple[int | None, str]] = []
    for each in found.break_reasons:
        line = each.user_stack[-1].lineno if each.user_stack else None
        reason = str(each.reason).split("\n")[0]
        reason = "a branch on a tensor" if reason.startswith("generic_jump") else reason
        breaks.append((line, reason))
    return list(found.graphs), breaks


@contextmanager
def kernels_made() -> Generator[list[int], None, None]:
    """Count the pieces of machine code that torch's own compiler writes inside."""
    found: list[int] = []
    before = _kernel_count()
    yield found
    after = _kernel_count()
    if after is not None:
        found.append(after - (before or 0))


def _kernel_count() -> int | None:
    metrics = sys.modules.get("torch._inductor.metrics")
    return getattr(metrics, "generated_kernel_count", None)


def lacks_compiler(error: BaseException) -> bool:
    """Whether a backend gave up for want of a C++ compiler."""
    return "InvalidCxxCompiler" in str(error) or "No working C++ compiler" in str(error)
