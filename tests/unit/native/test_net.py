"""Machine code that nobody asked for by name never fails a fit that torch can do."""

import os
import py_compile
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import gradfit as gf
from gradfit import _dispatch
from gradfit._native import machine
from gradfit.errors import BackendError, GradfitError

compiled = pytest.mark.skipif(not machine.enabled(), reason="nothing is compiled")
pytestmark = compiled

SAID = "not run as machine code"
FAULTS = [
    RuntimeError("LLVM ERROR:\nmany lines\nof it"),
    OSError("could not get source code"),
    ImportError("No module named 'llvmlite'"),
    MemoryError(),
    RecursionError("maximum recursion depth exceeded"),
    KeyError("x"),
    AttributeError("module 'llvmlite.ir' has no attribute 'IRBuilder'"),
]


@pytest.fixture
def keen(monkeypatch, tmp_path):
    """Machine code is wanted at once, and there is none yet."""
    monkeypatch.setenv("GRADFIT_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine, "_loaded", machine._loaded.__class__())
    monkeypatch.setattr(_dispatch, "_price", lambda kernels, count: 0.0)
    monkeypatch.setattr(_dispatch, "PER_FIT", 1.0)
    monkeypatch.setattr(_dispatch, "_CAPTURED", {})
    for name in ("_FAILURES", "_SAID", "_KNOWN"):
        monkeypatch.setattr(_dispatch, name, type(getattr(_dispatch, name))())


def broken(monkeypatch, fault):
    calls = []

    def fail(*_):
        calls.append(1)
        raise fault

    monkeypatch.setattr(machine, "_compile", fail)
    return calls


def points(n=30, groups=1):
    rng = np.random.default_rng(3)
    x = np.tile(np.linspace(0, 8, n), groups)
    y = 4 * np.exp(-0.4 * x) + 0.7 + 0.05 * rng.standard_normal(x.size)
    return x + 0.05 * rng.standard_normal(x.size), y


GIVEN = {"start": {"a": 3.5, "b": 0.35, "c": 0.6}, "sx": 0.05, "sy": 0.05}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: type(f).__name__)
def test_whatever_the_compiler_raises_torch_fits_and_says_so_once(fault, keen, monkeypatch):
    calls, (x, y) = broken(monkeypatch, fault), points()
    wanted = gf.fit("a*exp(-b*x) + c", x, y, backend="eager", **GIVEN)
    first, second, other = (
        gf.fit(formula, x, y, **GIVEN)
        for formula in ("a*exp(-b*x) + c", "a*exp(-b*x) + c", "a/exp(b*x) + c")
    )
    assert len(calls) == 1
    for found in (first, second):
        assert (found.backend, found.params, found.chi2) == ("eager", wanted.params, wanted.chi2)
    assert f"{SAID}: " in first.message
    assert type(fault).__name__ in first.message
    assert "\n" not in first.message
    assert SAID not in second.message + other.message


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: type(f).__name__)
def test_machine_code_that_was_asked_for_is_refused_in_one_line(fault, keen, monkeypatch):
    broken(monkeypatch, fault)
    x, y = points()
    asked = {"backend": "native", "sx": 0.05, "sy": 0.05}
    doors = [
        lambda: gf.fit("a*exp(-b*x) + c", x, y, start=GIVEN["start"], **asked),
        lambda: gf.line(x, y, **asked),
        lambda: gf.prepare("a*exp(-b*x) + c", **GIVEN)(x, y),
    ]
    for door in doors:
        with pytest.raises(BackendError, match=r"machine code cannot be made .*backend=") as error:
            door()
        assert isinstance(error.value, GradfitError)
        assert "\n" not in str(error.value)


def test_every_door_that_takes_machine_code_by_itself_can_do_without(keen, monkeypatch):
    broken(monkeypatch, RuntimeError("no"))
    x, y = points(20, 3000)
    ids = np.repeat(np.arange(3000), 20)
    few = ids < 10
    assert gf.line(x, y, 0.1, 0.1, groups=ids).success.all()
    monkeypatch.setattr(_dispatch, "_FAILURES", [])
    fits = gf.fit("a*exp(-b*x) + c", x[few], y[few], groups=ids[few], **GIVEN)
    assert fits.success.all()
    assert fits.backend == "eager"
    monkeypatch.setattr(_dispatch, "_FAILURES", [])
    assert gf.line(x[:20], y[:20], 0.1, 0.1).bootstrap(20, "parametric", seed=1).n == 20


def test_a_failure_of_one_model_leaves_the_others(keen, monkeypatch):
    x, y = points()
    with monkeypatch.context() as patch:
        patch.setattr(_dispatch, "_capture", lambda *_: 1 / 0)
        first = gf.fit("a*exp(-b*x) + c", x, y, **GIVEN)
    assert "ZeroDivisionError" in first.message
    assert not _dispatch._FAILURES
    calls = broken(monkeypatch, RuntimeError("no"))
    for formula in ("a*exp(-b*x) + c", "a/exp(b*x) + c"):
        gf.fit(formula, x, y, **GIVEN)
        assert len(calls) == (formula == "a/exp(b*x) + c")


PROBE = """
import sys
{before}
import numpy as np
import gradfit as gf
from gradfit import _dispatch
_dispatch._price = lambda kernels, count: 0.0
_dispatch.PER_FIT = 1.0
x = np.linspace(0, 8, 30)
y = 4 * np.exp(-0.4 * x) + 0.7 + 0.05 * np.cos(9 * x)
given = {{"start": (3.5, 0.35, 0.6), "sx": 0.05, "sy": 0.05}}
wanted = gf.fit("a*exp(-b*x) + c", x, y, backend="eager", **given)
notes = []
for _ in range(3):
    found = gf.fit("a*exp(-b*x) + c", x, y, **given)
    assert found.success
    assert abs(found.params["b"] - wanted.params["b"]) < 1e-9
    notes.append("not run as machine code" in found.message)
try:
    gf.fit("a*exp(-b*x) + c", x, y, backend="native", **given)
    print("native", notes)
except gf.errors.BackendError as error:
    assert "\\n" not in str(error)
    print("refused", notes)
print(gf.__file__)
"""
PACKAGE = Path(gf.__file__).parent


def zipped(folder):
    path = folder / "gradfit.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in PACKAGE.rglob("*"):
            if file.suffix in {".py", ".css", ".js", ".typed"}:
                archive.write(file, Path("gradfit") / file.relative_to(PACKAGE))
    return path


def without_sources(folder):
    for file in PACKAGE.rglob("*.py"):
        target = folder / "gradfit" / file.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        cfile, dfile = str(target.with_suffix(".pyc")), f"gone/{file.name}"
        py_compile.compile(str(file), cfile=cfile, dfile=dfile, doraise=True)
    return folder


def run(code, path, folder):
    env = {**os.environ, "PYTHONPATH": str(path), "GRADFIT_CACHE_DIR": str(folder / "kept")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(str(path))
    return done.stdout.splitlines()[0]


@pytest.mark.slow
def test_from_a_zip_file_a_second_fit_is_as_good_as_the_first(tmp_path):
    assert run(PROBE.format(before=""), zipped(tmp_path), tmp_path).startswith("native")


def test_without_sources_torch_fits(tmp_path):
    tree = without_sources(tmp_path / "tree")
    assert run(PROBE.format(before=""), tree, tmp_path) == "refused [True, False, False]"


def test_without_llvmlite_torch_fits(tmp_path):
    before = 'sys.modules["llvmlite"] = None'
    path = PACKAGE.parent
    assert run(PROBE.format(before=before), path, tmp_path) == "refused [True, False, False]"
