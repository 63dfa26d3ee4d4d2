"""Machine code: the same numbers as Python, found again on disk, made once by many threads."""

import errno
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit._native import machine, store
from gradfit._native.expression import FIRST, Pool

from .compare import assert_close, by_kernel, kernel_of
from .models import ONE, TWO

compiled = pytest.mark.skipif(not machine.enabled(), reason="nothing is compiled")

PROBE = """
import sys
import numpy as np
import torch
from gradfit._native.kernel import Kernel
from gradfit._native.program import capture

p = capture(
    lambda x, b: (b[0] * torch.exp(-b[1] * x[0]))[None], [[0.3, 0.7]], [[1.0, 1.1], [2.0, 2.2]]
)
kernel = Kernel("first", p.x, p.beta, (*p.value, *p.first[0]))
print(kernel.is_ready, repr(kernel.evaluate([[0.5]], [2.0, 3.0]).tolist()))
print("numba" in sys.modules)
"""


def run_probe(folder, **environment):
    run = subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "GRADFIT_CACHE_DIR": str(folder), **environment},
    )
    return run.stdout.split("\n")


def decay(x, beta):
    return (beta[0] * torch.exp(-beta[1] * x[0]))[None]


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty cache, in memory and on disk."""
    monkeypatch.setenv("GRADFIT_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(machine, "_loaded", machine._loaded.__class__())
    return tmp_path


def test_compiled_operations_are_those_of_python(monkeypatch, rng):
    """Many functions as responses of one model, so that they are compiled once."""
    names = """
        acosh asin asinh atanh digamma erfinv exp exp2 expm1 i1 i1e lgamma log10 log2 logsigmoid
        masks round sigmoid sign sinc softplus tanh to_the_-half to_the_1.7 where
    """

    def model(x, beta):
        one = [ONE[name](x[0] * beta[0]) for name in names.split()]
        return torch.stack([*one, *(fn(x[0], x[1]) for fn in TWO.values())])

    kernel = kernel_of(model, 2, 1)
    special = [0.0, 1.0, -1.0, 800.0, -800.0, -745.0, 1e300, np.inf, -np.inf, np.nan]
    x = np.concatenate([rng.normal(0, 3, (2, 150)), [special, special[::-1]]], 1)
    compiled = kernel.evaluate("value", x, [1.0])
    with monkeypatch.context() as patch:
        patch.setenv("GRADFIT_JIT", "0")
        python = kernel.evaluate("value", x, [1.0])
    assert_close(compiled, python, 1e-13, np.where(np.abs(x[0]) < 20, 1.0, 1e-300))


def test_compiled_derivatives_are_those_of_python(monkeypatch, rng):
    def model(x, beta):
        (a, b, c), x = beta, x[0]
        return torch.stack([a * torch.exp(-b * x) + c, torch.sin(b * x) * torch.erf(c * x)])

    kernel = kernel_of(model, 1, 3)
    x, nu = rng.normal(size=(1, 150)), rng.normal(size=(2, 150))
    compiled = by_kernel(kernel, x, [1.0, 0.4, 2.0], nu)
    with monkeypatch.context() as patch:
        patch.setenv("GRADFIT_JIT", "0")
        python = by_kernel(kernel, x, [1.0, 0.4, 2.0], nu)
    for a, b in zip(compiled, python, strict=True):
        assert_close(a, b, 1e-14, 1.0)


@compiled
def test_kernel_is_found_again_by_another_process_without_numba(tmp_path):
    first, second = run_probe(tmp_path), run_probe(tmp_path)
    assert first[0].startswith("False")
    assert second[0].startswith("True")
    assert first[0].split(" ", 1)[1] == second[0].split(" ", 1)[1]
    assert (first[1], second[1]) == ("False", "False")


BLOCKED = {
    "a file": lambda path: path.write_text("no folder"),
    "no name for a folder": lambda path: None,
    "nobody's home": lambda path: None,
}


@pytest.mark.parametrize("why", BLOCKED)
def test_folder_that_cannot_be_used_is_done_without(why, fresh, tmp_path, monkeypatch):
    blocked = tmp_path / ("a_file" if why == "a file" else 300 * "x")
    BLOCKED[why](blocked)
    monkeypatch.setenv("GRADFIT_CACHE_DIR", str(blocked))
    if why == "nobody's home":
        monkeypatch.delenv("GRADFIT_CACHE_DIR")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(store.Path, "home", homeless)
    kernel = kernel_of(decay, 1, 2).kernel("value")
    assert not kernel.is_ready or not machine.enabled()
    found = kernel.evaluate([[0.5], [0.0]], [2.0, 3.0])
    assert np.allclose(found, 2 * np.exp(-1.5), rtol=1e-15)
    assert not [f for f in fresh.iterdir() if f.name != "a_file"]


def homeless():
    raise RuntimeError("Could not determine home directory.")


@compiled
def test_a_file_that_cannot_be_finished_leaves_nothing_behind(fresh, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.os, "replace", full)
    kernel_of(decay, 1, 2).evaluate("value", [[0.5]], [2.0, 3.0])
    assert not list(fresh.iterdir())


FORK = """
import os, signal, threading, time
import gradfit as gf
x = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
y = [3.9, 2.9, 1.8, 1.4, 1.1, 0.8, 0.7, 0.8]
def fit(backend="native"):
    return gf.fit("a*exp(-b*x) + c", x, y, start=(3, 0.3, 1), sy=0.1, backend=backend).params
fit("eager")
import llvmlite.binding
thread = threading.Thread(target=fit)
thread.start()
time.sleep(0.3)
child = os.fork()
if not child:
    signal.alarm(20)
    os._exit(len(fit()) != 3)
status = os.waitpid(child, 0)[1]
thread.join()
print(status)
"""


@compiled
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_may_fork_while_a_thread_compiles(tmp_path):
    """The thread is gone in the child, and with it the key to whatever it had locked."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        env={**os.environ, "GRADFIT_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["0"], done.stderr


DAMAGE = {
    "cut": lambda b: b[:100],
    "changed": lambda b: b[:-9] + b"123456789",
    "empty": lambda b: b"",
}


@compiled
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_file_is_made_anew(fresh, damage, monkeypatch):
    kernel = kernel_of(decay, 1, 2)
    kernel.evaluate("value", [[0.5]], [2.0, 3.0])
    (path,) = fresh.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    monkeypatch.setattr(machine, "_loaded", machine._loaded.__class__())
    found = kernel.evaluate("value", [[0.5]], [2.0, 3.0])
    assert np.allclose(found, 2 * np.exp(-1.5), rtol=1e-15)
    assert len(path.read_bytes()) > 1000
    assert list(fresh.iterdir()) == [path]


def test_folder_follows_the_platform_and_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADFIT_CACHE_DIR", str(tmp_path))
    assert store.folder() == tmp_path
    monkeypatch.delenv("GRADFIT_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert store.folder() == tmp_path / "xdg" / "gradfit"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert store.folder().parts[-3:] == ("Library", "Caches", "gradfit")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert store.folder() == tmp_path / "local" / "gradfit"


def test_memory_is_bounded(fresh, monkeypatch):
    monkeypatch.setenv("GRADFIT_JIT", "0")
    monkeypatch.setattr(machine, "MOST", 3)
    for k in range(6):
        kernel_of(lambda x, beta, k=k: beta[0] * x + k, 1, 1).evaluate("value", [[0.5]], [2.0])
    assert len(machine._loaded) == 3


@compiled
def test_eight_threads_compile_one_kernel_once(fresh, monkeypatch):
    made = []
    original = machine._compile
    monkeypatch.setattr(machine, "_compile", lambda *a: made.append(1) or original(*a))
    found, start = [], threading.Barrier(8)

    def work():
        start.wait()
        found.append(kernel_of(decay, 1, 2).evaluate("value", [[0.5, 0.7]], [2.0, 3.0]))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(made) == 1
    assert len(found) == 8
    assert all(np.array_equal(f, found[0]) for f in found)


def test_capture_in_eight_threads_at_once(monkeypatch):
    monkeypatch.setenv("GRADFIT_JIT", "0")
    texts, start = [], threading.Barrier(8)

    def work():
        start.wait()
        texts.append({kernel_of(decay, 1, 2).text("second") for _ in range(5)})

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set.union(*texts)) == 1


@compiled
def test_the_solver_is_not_forgotten_while_it_is_used(monkeypatch, tmp_path):
    """However many kernels are made between its fits, and wherever files lie by then."""
    from gradfit._native import cpu

    monkeypatch.setattr(machine, "MOST", 12)
    x = np.linspace(0, 1, 9)
    for k in range(3):
        gf.fit(f"a + {k + 2}.5*b*x", x, 1 + x, start=(0.5, 0.3), sx=0.1, backend="native")
    monkeypatch.setenv("GRADFIT_CACHE_DIR", str(tmp_path))
    assert cpu.is_solver_ready()


def test_threads_that_add_to_one_pool_never_number_two_expressions_alike(monkeypatch):
    pool, start = Pool(), threading.Barrier(8)
    x = pool.symbol("x", 0.5, FIRST)
    before = sys.getswitchinterval()

    def work():
        start.wait()
        for k in range(400):
            (x * float(k) + 1.0).at("exp")

    threads = [threading.Thread(target=work) for _ in range(8)]
    sys.setswitchinterval(1e-6)
    try:
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(before)
    terms = list(pool._known.values())
    assert len({t.index for t in terms}) == len(terms)
    assert all(a.index < t.index for t in terms for a in t.args)


@compiled
def test_machine_code_that_is_there_waits_for_none_that_is_made(fresh, monkeypatch):
    ready = kernel_of(decay, 1, 2).kernel("value")
    ready.evaluate([[0.5], [0.0]], [2.0, 3.0])
    began, go_on, found = threading.Event(), threading.Event(), []
    original = machine._compile

    def slow(*args):
        began.set()
        assert go_on.wait(60)
        return original(*args)

    monkeypatch.setattr(machine, "_compile", slow)
    other = kernel_of(lambda x, b: b[0] * x, 1, 1)
    maker = threading.Thread(target=lambda: other.evaluate("value", [[0.5]], [2.0]))
    maker.start()
    assert began.wait(60)
    user = threading.Thread(
        target=lambda: found.append(ready.evaluate([[0.5], [0.0]], [2.0, 3.0])), daemon=True
    )
    user.start()
    user.join(20)
    go_on.set()
    maker.join()
    assert len(found) == 1
