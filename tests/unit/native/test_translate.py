"""The part of Python that is translated means what Python means."""

from typing import NamedTuple

import numpy as np
import pytest

from gradfit._native import machine
from gradfit._native.emit import TranslationError
from gradfit._native.lower import LANES
from gradfit._native.machine import INTEGER, POINTER, WIDE
from gradfit._native.pointer import Lanes, at, drain, opposite, pick, some, stream, turn, where

pytestmark = pytest.mark.skipif(not machine.enabled(), reason="nothing is compiled")

TABLE = np.array([0.5, -1.5, 2.5])
LIMIT = 3


class Pair(NamedTuple):
    left: float
    right: float


def ordered(a, b) -> "Pair":
    if a <= b:
        return Pair(a, b)
    return Pair(b, a)


def power(x: float, n: int) -> float:
    out = 1.0
    for _ in range(n):
        out *= x
    return out


def fill_with(memory, n: int, value: float) -> None:
    for i in range(n):
        memory[i] = value


def arithmetic(given, out, n):
    a, b = given[0], given[1]
    out[0] = a + b * 2 - a / b
    out[1] = a**2.5
    out[2] = -a + abs(b) + max(a, b) - min(a, b)
    out[3] = n // 2 + n % 3
    out[4] = int(a) + float(n)
    out[5] = np.sqrt(a) + np.log1p(a) + np.arctan(b) + np.floor(b) + np.hypot(a, b)
    out[6] = np.inf if n > 100 else np.nan if n < 0 else np.pi


def branches(given, out, n):
    a, b = given[0], given[1]
    out[0] = 1.0 if a < b <= 10.0 else 0.0
    out[1] = 1.0 if (n > 2 and given[n] > 0.0) or not a >= b else 0.0
    if a > b:
        out[2] = 1.0
    elif a == b:
        out[2] = 2.0
    else:
        out[2] = 3.0
    nan = a - a + np.nan
    out[3] = (1.0 if nan != nan else 0.0) + (2.0 if nan <= a else 0.0)


def loops(given, out, n):
    total, k = 0.0, 0
    for i in range(n):
        if i == LIMIT:
            continue
        if i > 5:
            break
        total += given[i]
    while k < n:
        k += 2
    for t in TABLE:
        total = total * 2.0 + t
    for i in range(n - 1, -1, -1):
        out[2 + i] = given[i] if i % 2 else 0.0
    out[0], out[1] = total, k


def functions(given, out, n):
    pair = ordered(given[0], given[1])
    out[0], out[1] = pair.left, pair.right
    pair = ordered(pair.right, 0.25)
    out[2] = pair.left
    out[3] = power(given[0], n) + power(given[1], 2)
    fill_with(at(out, 4), 3, given[1])
    both = pair.left, pair.right
    swapped = Pair(*both)
    out[7] = swapped.right - given[2]


@pytest.mark.parametrize("function", [arithmetic, branches, loops, functions])
@pytest.mark.parametrize("given", [(2.0, 3.5), (3.5, 2.0), (0.7, -1.2)])
def test_machine_code_does_what_python_does(function, given, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADFIT_CACHE_DIR", str(tmp_path))
    data = np.array([*given, 1.5, -0.5, 4.0, 2.5, 1.0, 8.0])
    code = machine.code(
        machine.digest(function.__name__), (POINTER, POINTER, INTEGER), lambda: function
    )
    for n in (3, 7):
        found, wanted = np.zeros(12), np.zeros(12)
        code.call(data.ctypes.data, found.ctypes.data, n)
        with np.errstate(all="ignore"):
            function(data, wanted, n)
        np.testing.assert_allclose(found, wanted, 1e-15)


def changes_kind(given, out, n):
    k = 0
    k = given[0]
    out[0] = k


def lists(given, out, n):
    out[0] = [1.0, 2.0][n]


@pytest.mark.parametrize(
    ("function", "reason"), [(changes_kind, "k changes its kind"), (lists, "not understood")]
)
def test_what_is_not_understood_is_refused(function, reason):
    with pytest.raises(TranslationError, match=reason):
        machine._compile(function, (POINTER, POINTER, INTEGER), False)


# Lanes --------------------------------------------------------------------------------------------


def steps_to_one(x: float) -> float:
    """Go a way of its own for every number."""
    steps = 0.0
    while x > 1.0:
        x = x / 2.0
        steps += 1.0
    return steps


def sum_of(memory, n: int) -> float:
    total = 0.0
    for i in range(n):
        total += memory[i]
    return total


def lanes_apart(given, wide, out, n):
    a, b = wide[0], wide[1]
    less = a < b
    out[0] = where(less, a, b) + given[0] * a
    out[1] = where(opposite(less) & (a > 0.0), 1.0, where(less | (b != b), 2, 3))
    out[2] = np.sqrt(abs(a)) + np.log1p(abs(b)) + abs(a) ** 1.5
    out[3] = sum_of(wide, n)
    out[4] = steps_to_one(b)
    going, left = a > -np.inf, n * a
    while some(going):
        left = where(going, left - 1.0, left)
        going = going & (left > 0.0)
    out[5] = left
    out[6] = float(n)
    out[7] = where(n > 5, a, given[1])


@pytest.mark.parametrize("n", [3, 7])
def test_lanes_do_what_each_would_alone(n, tmp_path, monkeypatch, rng):
    monkeypatch.setenv("GRADFIT_CACHE_DIR", str(tmp_path))
    given, wide = np.array([1.5, -2.0]), rng.normal(scale=3, size=(8, LANES))
    code = machine.code(
        machine.digest("lanes"), (POINTER, WIDE, WIDE, INTEGER), lambda: lanes_apart
    )
    found, wanted = np.zeros((2, 8, LANES))
    code.call(given.ctypes.data, wide.ctypes.data, found.ctypes.data, n)
    as_lanes = Lanes(wide.copy()), Lanes(wanted)
    one = steps_to_one
    monkeypatch.setitem(globals(), "steps_to_one", lambda b: np.array([one(v) for v in b]))
    lanes_apart(given, *as_lanes, n)
    np.testing.assert_allclose(found, wanted, 1e-15)


def picked(given, wide, ahead, n):
    first, last = wide[0], wide[1]
    wide[2] = pick(at(given, 1), where(n < last, float(n), last) + first)
    turn(at(given, n), first, at(wide, 3), at(ahead, 3), 2)


def test_lanes_take_what_lies_at_places_of_their_own(tmp_path, monkeypatch, rng):
    monkeypatch.setenv("GRADFIT_CACHE_DIR", str(tmp_path))
    given, wide = rng.normal(size=80), np.zeros((3 + 2 * LANES, LANES))
    wide[0], wide[1] = rng.permutation(50)[:LANES], rng.integers(0, 7, LANES)
    found, ahead = wide.copy(), np.zeros_like(wide)
    kinds = POINTER, WIDE, WIDE, INTEGER
    code = machine.code(machine.digest("picked"), kinds, lambda: picked)
    code.call(given.ctypes.data, found.ctypes.data, ahead.ctypes.data, 4)
    first, last = wide[:2].astype(int)
    np.testing.assert_array_equal(found[2], given[1 + first + np.minimum(4, last)])
    turned = given[4 + first + np.arange(LANES)[:, None]]
    np.testing.assert_array_equal(found[3::2], turned)
    np.testing.assert_array_equal(ahead[3::2], turned)
    assert not found[4::2].any()
    as_lanes = Lanes(wide), Lanes(np.zeros_like(wide))
    picked(given, *as_lanes, 4)
    np.testing.assert_array_equal(wide, found)
    np.testing.assert_array_equal(as_lanes[1].numbers, ahead)


def streamed(given, wide, ahead, n):
    stream(given, n, wide[1] + 1.0)
    drain()


def test_lanes_may_go_by_the_cache(tmp_path, monkeypatch, rng):
    monkeypatch.setenv("GRADFIT_CACHE_DIR", str(tmp_path))
    wide, memory = rng.normal(size=(2, LANES)), np.zeros(5 * LANES)
    given = memory[-(memory.ctypes.data // memory.itemsize) % LANES :][: 4 * LANES]
    kinds = POINTER, WIDE, WIDE, INTEGER
    code = machine.code(machine.digest("streamed"), kinds, lambda: streamed)
    code.call(given.ctypes.data, wide.ctypes.data, wide.ctypes.data, 2 * LANES)
    np.testing.assert_array_equal(given[2 * LANES : 3 * LANES], wide[1] + 1.0)
    assert np.count_nonzero(given) == LANES
    found = given.copy()
    streamed(given, Lanes(wide), None, 2 * LANES)
    np.testing.assert_array_equal(given, found)


def different_ways(given, out, n):
    if out[0] > 0.0:
        out[1] = given[0]


def narrowed(given, out, n):
    given[0] = out[0]


@pytest.mark.parametrize(
    ("function", "reason"), [(different_ways, "different ways"), (narrowed, "is no")]
)
def test_what_lanes_cannot_do_is_refused(function, reason):
    with pytest.raises(TranslationError, match=reason):
        machine._compile(function, (POINTER, WIDE, INTEGER), True)


def test_memory_of_lanes_gives_copies():
    memory = Lanes(np.zeros((2, LANES)))
    value = memory[0]
    value += 1.0
    assert not memory[0].any()
    at(memory, 1)[0] = 2.0
    assert (memory[1] == 2.0).all()
