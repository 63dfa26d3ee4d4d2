"""LLVM as this package sees it: whatever is taken from llvmlite stands here, and nowhere else.

llvmlite changes: pointers that know what they point to are announced to go, and passes have been
run in two ways. Here a pointer is opaque to LLVM, and :class:`Pointer` remembers for us what lies
behind it. Importing this module fails where llvmlite is missing, so that what can do without it
imports it late.
"""

import os
import re
from functools import lru_cache
from typing import Any

from llvmlite import __version__, binding, ir
from llvmlite.ir import (
    ArrayType,
    Constant,
    DoubleType,
    Function,
    FunctionType,
    IntType,
    Module,
    Undefined,
    VectorType,
    VoidType,
)

from gradfit.errors import BackendError

__all__ = [
    "ArrayType",
    "Builder",
    "Constant",
    "DoubleType",
    "Function",
    "FunctionType",
    "IntType",
    "Module",
    "Pointer",
    "Undefined",
    "VectorType",
    "VoidType",
    "host",
    "load",
    "object_code",
    "table",
]

FEATURES = "GRADFIT_CPU_FEATURES"
"""Environment variable: features of the processor to add or to leave out, as "-avx512f,-avx2"."""


class Pointer(ir.PointerType):
    """A pointer, to LLVM like any other, which knows what it points to.

    Attributes
    ----------
    pointee : type
        What lies there.
    """

    def __init__(self, pointee: Any) -> None:  # pyright: ignore[reportInconsistentConstructor]
        super().__init__()
        self.pointee = pointee

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pointer) and self.pointee == other.pointee

    def __hash__(self) -> int:
        return hash(Pointer)


class Builder(ir.IRBuilder):
    """Writes instructions at the end of a block; pointers are :class:`Pointer`."""

    def alloca(self, typ: Any, size: Any = None, name: str = "") -> Any:
        """Return room for one value in the frame of the function."""
        made = super().alloca(typ, size, name)
        made.type = Pointer(typ)
        return made

    def gep(
        self,
        ptr: Any,
        indices: Any,
        inbounds: bool = False,
        name: str = "",
        source_etype: Any = None,
    ) -> Any:
        """Return a pointer so many values further on."""
        return super().gep(ptr, indices, inbounds, name, source_etype or ptr.type.pointee)

    def load(self, ptr: Any, name: str = "", align: int | None = None, typ: Any = None) -> Any:
        """Return what lies behind a pointer."""
        return super().load(ptr, name, align, typ or ptr.type.pointee)


def table(module: Any, values: Any) -> Any:
    """Return a constant array of numbers in a module."""
    kind = ArrayType(DoubleType(), len(values))
    made: Any = ir.GlobalVariable(module, kind, module.get_unique_name("table"))
    made.initializer = Constant(kind, [float(v) for v in values])
    made.global_constant, made.linkage, made.type = True, "internal", Pointer(kind)
    return made


# From text to machine code ------------------------------------------------------------------------


def object_code(text: str, vectors: bool) -> bytes:
    """Return the object file of a module for this processor; ``vectors``: loops in registers."""
    level = 3 if vectors else 2
    target = _target(level)
    module = binding.parse_assembly(text)
    module.triple, module.data_layout = target.triple, str(target.target_data)
    tuning = binding.create_pipeline_tuning_options(speed_level=level)
    tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = vectors
    builder = binding.create_pass_builder(target, tuning)
    builder.getModulePassManager().run(module, builder)
    return target.emit_object(module)


def load(binary: bytes) -> tuple[Any, int]:
    """Return what keeps an object file in memory, and the address of its ``main``, or 0."""
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _target())
    engine.add_object_file(binding.ObjectFileRef.from_data(binary))
    engine.finalize_object()
    return engine, engine.get_function_address("main")


def host() -> tuple[str, ...]:
    """Return what machine code depends on beside its own text."""
    return _host(os.environ.get(FEATURES, ""))


@lru_cache(maxsize=16)
def _host(given: str) -> tuple[str, ...]:
    cpu, features = binding.get_host_cpu_name(), _features(given)
    return __version__, binding.get_process_triple(), cpu, features


def _features(asked: str) -> str:
    """Return the features of the processor that may be used, for LLVM."""
    found = binding.get_host_cpu_features()
    if found.get("avx512f"):
        # Long loops of arithmetic gain more by the widest registers than the clock loses.
        found["prefer-256-bit"] = False
    given = [word.strip() for word in asked.split(",") if word.strip()]
    wrong = next((w for w in given if not re.fullmatch(r"[+-][a-z0-9._-]+", w)), None)
    if wrong is not None:
        raise BackendError(
            f'{FEATURES} must list features of the processor such as "-avx512f,-avx2"; '
            f"got {wrong!r}."
        )
    return ",".join((found.flatten(), *given))


def _target(level: int = 2) -> Any:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    _, _, cpu, features = host()
    return binding.Target.from_default_triple().create_target_machine(
        cpu=cpu,
        features=features,
        opt=level,
        codemodel="jitdefault",
        jit=True,
    )
