"""Functions that fill vector registers are right to two units in the last place, and at all edges.

Each is asked as the Python that it is written in, and as machine code, in a loop and in lanes.
"""

import mpmath
import numpy as np
import pytest
import torch

from gradfit._native import machine, special, vector
from gradfit._native.kernel import Kernel, argument, define
from gradfit._native.lower import BLOCK, LANES
from gradfit._native.machine import INTEGER, POINTER, WIDE
from gradfit._native.operations import NAMES

from .compare import kernel_of

COUNT = 400
UNITS = {"exp": 1.0, "log": 1.0, "log1p": 1.0, "power": 1.1, "sin": 1.0, "cos": 1.0}
"""Units in the last place; two for the others."""
INSIDE = {
    "exp": (-700, 700),
    "expm1": (-40, 700),
    "sinh": (-700, 700),
    "cosh": (-700, 700),
    "tanh": (-30, 30),
    "log": (1e-3, 1e3),
    "log1p": (-0.999, 1e3),
    "sin": (-1e3, 1e3),
    "cos": (-1e3, 1e3),
    "near_sin": (-1e3, 1e3),
    "near_cos": (-1e3, 1e3),
    "arctan": (-30, 30),
}
POSITIVE = "log", "power"
REFERENCE = {"arctan": mpmath.atan, "near_sin": mpmath.sin, "near_cos": mpmath.cos}
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 5e-324, 1e-310, 711.0, -746.0, 1e30, -1e300]
EDGES += [np.inf, -np.inf, np.nan]
SPECIAL = {f.__name__: f for f in vector.FUNCTIONS}


def arguments(name, rng):
    """Return numbers in the middle, of every size, and beside multiples of a quarter turn."""
    low, high = INSIDE[name]
    sizes = 10.0 ** rng.uniform(-12, 0, COUNT)
    x = [rng.uniform(low, high, COUNT), sizes if name in POSITIVE else sizes * rng.choice([-1, 1])]
    if name in POSITIVE or name == "arctan":
        x.append(10.0 ** rng.uniform(-300, 300, COUNT))
    if "sin" in name or "cos" in name:
        quarters = np.rint(10.0 ** rng.uniform(0, 11, COUNT)) * (np.pi / 2)
        x += [quarters, np.nextafter(quarters, np.inf)] if "h" not in name else []
    return np.concatenate(x)


def exact(name, *args):
    reference = REFERENCE.get(name) or getattr(mpmath, name)
    with mpmath.workdps(60):
        return [reference(*map(mpmath.mpf, map(float, row))) for row in zip(*args, strict=True)]


def as_python(name, *args):
    function = vector.FUNCTIONS[SPECIAL[name]]
    with np.errstate(all="ignore"):
        return np.array([function(*row) for row in zip(*args, strict=True)])


def compiled(name, kind, *args):
    """Return what machine code says in a loop over numbers, or over lanes."""
    names = [f"given[{len(args)} * i + {k}]" for k in range(len(args))]
    made = f"out[i] = {name}({', '.join(names)})"
    text = f"def run(given, out, n):\n    for i in range(n):\n        {made}\n"
    code = machine.code(
        machine.digest(kind, text), (kind, kind, INTEGER), lambda: define(text, NAMES)
    )
    size = len(args[0])
    lanes = LANES if kind == WIDE else 1
    many = -(-size // LANES) * LANES
    rows = np.zeros((len(args), many))
    rows[:, :size] = args
    # In lanes what lies together is one number for each of them.
    given = rows.reshape(len(args), -1, lanes).transpose(1, 0, 2).copy()
    out = np.zeros(many)
    code.call(given.ctypes.data, out.ctypes.data, many // lanes)
    return out[:size]


WAYS = {
    "as Python": as_python,
    "in a loop": lambda name, *args: compiled(name, POINTER, *args),
    "in lanes": lambda name, *args: compiled(name, WIDE, *args),
}
needs_compiler = pytest.mark.skipif(not machine.enabled(), reason="nothing is compiled")
EACH_WAY = [w if w == "as Python" else pytest.param(w, marks=needs_compiler) for w in WAYS]


def assert_right(name, found, wanted):
    value = np.array([float(w) for w in wanted])
    unit = np.spacing(np.maximum(np.abs(value), 1e-300))
    pairs = zip(found, wanted, unit, strict=True)
    error = np.array([float(abs(mpmath.mpf(float(a)) - b) / u) for a, b, u in pairs])
    assert error.max() <= UNITS.get(name.removeprefix("near_"), 2.0), value[error.argmax()]


@pytest.mark.parametrize("way", EACH_WAY)
@pytest.mark.parametrize("name", INSIDE)
def test_function_is_right_to_a_unit_or_two(name, way, rng):
    x = arguments(name, rng)
    assert_right(name, WAYS[way](name, x), exact(name, x))


@pytest.mark.parametrize("way", EACH_WAY)
def test_power_is_right_to_hardly_more_than_one_unit(way, rng):
    x = 10.0 ** np.concatenate([rng.uniform(-5, 5, COUNT), rng.uniform(-300, 300, COUNT)])
    y = np.concatenate([rng.uniform(-40, 40, COUNT), rng.uniform(-0.9, 0.9, COUNT)])
    near = rng.uniform(0.9, 1.1, COUNT)
    x, y = np.append(x, near), np.append(y, rng.uniform(-3000, 3000, COUNT))
    with mpmath.workdps(60):
        wanted = [mpmath.mpf(float(a)) ** mpmath.mpf(float(b)) for a, b in zip(x, y, strict=True)]
    assert_right("power", WAYS[way]("power", x, y), wanted)


@pytest.mark.parametrize("way", EACH_WAY)
@pytest.mark.parametrize("name", [n for n in INSIDE if not n.startswith("near_")])
def test_edges_are_those_of_the_c_library(name, way):
    x = np.array(EDGES)
    with np.errstate(all="ignore"):
        wanted = SPECIAL[name](x)
    np.testing.assert_allclose(WAYS[way](name, x), wanted, rtol=1e-15)


@pytest.mark.parametrize("way", EACH_WAY)
def test_powers_of_numbers_at_the_edge_are_those_of_the_c_library(way):
    exponents = np.array([*EDGES, 3.0, 4.0, -2.5, 0.1, 1e5])
    x, y = (v.ravel() for v in np.meshgrid(EDGES, exponents))
    with np.errstate(all="ignore"):
        wanted = special.power(x, y)
    found = WAYS[way]("power", x, y)
    np.testing.assert_allclose(found, wanted, rtol=1e-15, atol=1e-323)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted) & ~np.isnan(wanted))


@pytest.mark.parametrize("far", [None, 3, 40])
def test_a_block_with_a_number_far_off_is_gone_through_again(far, rng):
    value = kernel_of(lambda x, b: torch.sin(x * b[0]) + torch.cos(x) * b[0], 1, 1).program
    kernel = Kernel("waves", value.x, value.beta, value.value, value.value)
    assert kernel.text.count("for i in range") == 2
    x, out = rng.uniform(-50, 50, BLOCK), np.zeros(BLOCK)
    if far is not None:
        x[far] = 2.0**60 + 2.0**9
    pars, total = np.ones(1), np.array([100.0])
    kernel.code.call(*map(argument, (x, pars, out, total)), BLOCK)
    wanted = np.sin(x) + np.cos(x)
    np.testing.assert_allclose(out, wanted, rtol=0, atol=1e-15)
    assert total[0] == pytest.approx(100 + wanted.sum(), rel=1e-15)
