"""What torch is set to around a call, and how a call is kept from it.

A default device, inference mode, ``no_grad`` and autocast belong to whoever set them, for their own
code. Whoever asks a question here gets the answer that it has without them.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from functools import cached_property, wraps
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")
Kind = TypeVar("Kind", bound=type)

CASTS = "cpu", "cuda"
"""Kinds of devices whose autocast is left."""


def undisturbed(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function run as if torch were set to nothing: gradients on, no autocast.

    New tensors lie where the first tensor does that is given, else on the processor. Tensors made
    in inference mode are given as copies, since autograd refuses the others.
    """
    return _kept_from(function, keeps_device=False)


def undisturbed_in_place(function: Callable[P, R]) -> Callable[P, R]:
    """Do the same for what runs code of the user, which may make tensors of its own.

    These lie where the user has said, if numbers can lie there.
    """
    return _kept_from(function, keeps_device=True)


def _kept_from(function: Callable[P, R], keeps_device: bool) -> Callable[P, R]:
    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        found = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]
        copied = any(t.is_inference() for t in found)
        now = default_device()
        home = now if keeps_device and now.type != "meta" else _home(found)
        if not (copied or now.type != home.type or _is_disturbed()):
            return function(*args, **kwargs)
        with left(home):
            given = cast(Any, [plain(a) for a in args] if copied else args)
            named = cast(Any, {k: plain(a) for k, a in kwargs.items()} if copied else kwargs)
            return function(*given, **named)  # pyright: ignore[reportCallIssue]

    return run


def undisturbed_methods(kind: Kind) -> Kind:
    """Have all public methods and properties of a class run as :func:`undisturbed`."""
    for name, member in list(vars(kind).items()):
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            setattr(kind, name, property(undisturbed(cast("Callable[..., Any]", member.fget))))
            getattr(kind, name).__doc__ = member.__doc__
        elif isinstance(member, cached_property):
            again = cached_property(undisturbed(cast("Callable[..., Any]", cast(Any, member).func)))
            again.__set_name__(kind, name)
            setattr(kind, name, again)
        elif callable(member) and not isinstance(member, type | staticmethod):
            setattr(kind, name, undisturbed(cast("Callable[..., Any]", member)))
    return kind


@contextmanager
def left(home: torch.device) -> Generator[None]:
    """Leave what torch is set to; new tensors lie at ``home``."""
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(mode=False))
        if not torch.is_grad_enabled():
            stack.enter_context(torch.enable_grad())
        for kind in CASTS:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if default_device().type != home.type:
            stack.enter_context(home)
        yield


def default_device() -> torch.device:
    """Return where new tensors lie; asking torch itself takes ten times as long."""
    return torch.empty(0).device


def plain(value: Any) -> Any:
    """Return what autograd takes: a copy of a tensor that was made in inference mode."""
    if not (isinstance(value, Tensor) and value.is_inference()):
        return value
    with torch.inference_mode(mode=False):
        return value.clone().requires_grad_(value.requires_grad)


def _home(tensors: Iterable[Tensor]) -> torch.device:
    return next((t.device for t in tensors if not t.is_meta), torch.device("cpu"))


def _is_disturbed() -> bool:
    return (
        not torch.is_grad_enabled()
        or torch.is_inference_mode_enabled()
        or any(map(torch.is_autocast_enabled, CASTS))
    )
