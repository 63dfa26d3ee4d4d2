"""Machine code goes by the name of all that it was made of, so that stale code is never found."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest

import gradfit
from gradfit._native import cpu, eights, emit, entry, lower, machine, translate
from gradfit._native.fingerprint import fingerprint
from gradfit._native.kernel import Kernel
from gradfit._native.kind import specialise
from gradfit._native.place import Spec
from gradfit._native.program import capture
from gradfit.lines import many

compiled = pytest.mark.skipif(not machine.enabled(), reason="nothing is compiled")
compiler = pytest.importorskip("gradfit._native.compiler")

KIND = Spec(**dict.fromkeys(Spec._fields, 1))
ROOTS = {
    "a fit": (entry.fit_many, cpu._FIT),
    "a walk": (entry.walk_part, cpu._WALK),
    "fits in eights": (eights.fit_in_eights, cpu._EIGHTS),
    "eight fits": (specialise(eights.fit_eight, KIND), cpu._EIGHT),
    "points of lines that enter": (many.enter, None),
    "points of lines that leave": (many.leave, None),
}


def read_by(function, kinds, monkeypatch):
    """Translate a function; return what was read, as (globals, name), and where from."""
    if kinds is None:
        marks = function.__annotations__
        kinds = [
            compiler.INTEGER if marks[n] is int else compiler.POINTER
            for n in function.__code__.co_varnames[: function.__code__.co_argcount]
        ]
    types = {compiler.POINTER: emit.POINTER, compiler.INTEGER: emit.WORD}
    found = {}

    class Recorded(dict):
        def __init__(self, function):
            super().__init__(plain(function))
            self.scope = function.__globals__

        def get(self, name, default=None):
            if name in self.scope:
                found[id(self.scope), name] = self.scope
            return super().get(name, default)

    plain = translate._known
    with monkeypatch.context() as patch:
        patch.setattr(translate, "_known", Recorded)
        translate.translate(
            function, [types[k] for k in kinds], compiler._known(), compiler.vector.FUNCTIONS
        )
    return [(scope, name) for (_, name), scope in found.items()]


def another(value):
    """Return another value of the same kind, if it is one that is compiled in."""
    if isinstance(value, (bool, int, float, np.number)):
        return value + 1
    if isinstance(value, np.ndarray):
        return value + 1.0
    if isinstance(value, FunctionType):
        other = FunctionType((lambda a: a).__code__, value.__globals__, value.__name__)
        return other
    return None


@pytest.mark.parametrize("root", ROOTS)
def test_whatever_is_compiled_in_changes_the_name(root, monkeypatch):
    """Every constant and function that a translation reads is changed, one after the other."""
    function, kinds = ROOTS[root]
    before = fingerprint(function)
    read = read_by(function, kinds, monkeypatch)
    assert len(read) > 1
    for scope, name in read:
        other = another(scope[name])
        if other is None or scope[name] in compiler._known():
            # Of what becomes an instruction the compiler knows the meaning.
            continue
        with monkeypatch.context() as patch:
            patch.setitem(scope, name, other)
            assert fingerprint(function) != before, name
    assert fingerprint(function) == before


def test_constants_of_lines_are_read(monkeypatch):
    names = {name for _, name in read_by(many.leave, None, monkeypatch)}
    assert {"LANES", "full"} <= names


@pytest.mark.parametrize("name", ["LANES", "REAL_BYTES", "POINTER", "_LIBRARY", "like"])
def test_what_the_compiler_reads_changes_all_names(name, monkeypatch):
    before = fingerprint(compiler.compiled)
    changed = {"LANES": 4, "REAL_BYTES": 4, "POINTER": emit.WIDE_POINTER, "_LIBRARY": {}}
    monkeypatch.setattr(emit, name, changed.get(name, emit.single))
    assert fingerprint(compiler.compiled) != before


def test_the_version_and_the_processor_are_part_of_every_name(monkeypatch):
    before = machine.digest("text")
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "__version__", "0.0.0")
        assert machine.digest("text") != before
    monkeypatch.setenv("GRADFIT_CPU_FEATURES", "-avx2")
    assert machine.digest("text") != before


def test_the_length_of_a_block_is_part_of_a_kernels_name(monkeypatch):
    p = capture(lambda x, b: (b[0] * x[0])[None], [[0.3, 0.7]], [[1.0, 1.1]])
    names = set()
    for module, name, value in [(lower, "BLOCK", 64), (lower, "BLOCK", 32), (lower, "LANES", 4)]:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            kernel = Kernel("first", p.x, p.beta, p.first[0], (), lower.BLOCK)
            names.add(kernel._name)
    assert len(names) == 3


def test_names_do_not_depend_on_the_process():
    code = (
        "from gradfit._native import cpu; from gradfit._native.fingerprint import fingerprint; "
        "print(*(fingerprint(f) for _, f in cpu._CODES.values()))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.split() == [fingerprint(f) for _, f in cpu._CODES.values()], done.stderr


def test_a_source_that_changed_after_its_import_is_not_compiled(tmp_path, monkeypatch):
    path = tmp_path / "changing.py"
    path.write_text("def main(a):\n    a[0] = 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    import changing

    os.utime(path, (1, 1))
    path.write_text("def main(a):\n    a[0] = 2.0\n")
    with pytest.raises(emit.TranslationError, match="main is not what was imported"):
        translate.translate(changing.main, [emit.POINTER], {}, {})


def test_llvmlite_is_imported_in_one_place():
    root = Path(gradfit.__file__).parent
    homes = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if (isinstance(node, ast.Import) and any("llvmlite" in a.name for a in node.names))
        or (isinstance(node, ast.ImportFrom) and "llvmlite" in (node.module or ""))
    }
    assert homes == {os.path.join("_native", "llvm.py")}


EDITED = """
import numpy as np, gradfit as gf
rng = np.random.default_rng(0)
x = np.linspace(0, 8, 200)
y = 4 * np.exp(-0.4 * x) + 0.7 + 0.05 * rng.standard_normal(200)
for backend in ("eager", "native"):
    fit = gf.fit("a*exp(-b*x) + c", x, y, start=(3, 0.3, 1), sx=0.05, sy=0.05, backend=backend)
    print(fit.chi2)
"""


@compiled
@pytest.mark.slow
def test_an_edited_constant_finds_no_machine_code_of_before(tmp_path):
    """Another length of blocks, in a process of its own, with the files of the first."""
    copy = tmp_path / "src"
    shutil.copytree(Path(gradfit.__file__).parent, copy / "gradfit")
    env = {**os.environ, "PYTHONPATH": str(copy), "GRADFIT_CACHE_DIR": str(tmp_path / "kept")}
    text = (copy / "gradfit" / "_native" / "lower.py").read_text("utf-8")
    for block in ("64", "32"):
        changed = text.replace("BLOCK = 64", f"BLOCK = {block}")
        (copy / "gradfit" / "_native" / "lower.py").write_text(changed, "utf-8")
        run = subprocess.run(
            [sys.executable, "-c", EDITED], capture_output=True, text=True, check=True, env=env
        )
        eager, native = map(float, run.stdout.split())
        assert native == pytest.approx(eager, rel=1e-9)
