"""Lines that go through piece by piece are those that go through as one."""

from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit import _dispatch
from gradfit._native.lower import LANES
from gradfit.lines import many, straight

COUNT = 60
ERRORS = {
    "correlated": lambda e: {"sx": e[0], "sy": e[1], "rho": e[2]},
    "own": lambda e: {"sx": e[0], "sy": e[1]},
    "one correlation": lambda e: {"sx": 0.1, "sy": e[1], "rho": 0.3},
    "equal": lambda e: {"sx": 0.1, "sy": 0.2},
    "none": lambda e: {},
}
FIELDS = ("chi2", "mswd", "p_value", "cov", "condition", "delta", "eps", "x_hat", "y_hat")
EXACT = ("keys", "dof", "success")


def cloud(rng, sizes):
    """Return points of lines in every direction, far from the origin, and their errors."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    angle = np.linspace(0, np.pi, len(sizes))[group]
    along = rng.uniform(-5, 5, group.size)
    sx, sy = rng.uniform(0.05, 0.2, (2, group.size))
    x = 300 + along * np.cos(angle) + sx * rng.standard_normal(group.size)
    y = -100 + along * np.sin(angle) + sy * rng.standard_normal(group.size)
    return x, y, (sx, sy, rng.uniform(-0.5, 0.5, group.size)), group


@pytest.fixture
def piece_by_piece(monkeypatch):
    """Have machine code fit lines, few points at a time; count the pieces."""
    monkeypatch.setattr(_dispatch, "_KNOWN", WeakKeyDictionary())
    runner, seen = many.cpu.runner, []

    def counting(plan, *rest):
        run = runner(plan, *rest)
        return lambda lo, hi: seen.append(plan.spec.n) or run(lo, hi)

    monkeypatch.setattr(many.cpu, "runner", counting)
    monkeypatch.setattr(straight, "MANY", 0)
    monkeypatch.setattr(many, "PIECE", 64)
    return seen


def both_ways(monkeypatch, *args, **options):
    """Fit piece by piece, and then as one."""
    options.setdefault("backend", "native")
    pieces = gf.line(*args, **options)
    monkeypatch.setattr(straight, "MANY", 1 << 60)
    return pieces, gf.line(*args, **options)


def assert_same(pieces, whole):
    assert pieces.backend == whole.backend == "native"
    for name in EXACT:
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name), err_msg=name)
    # Which of the tests for convergence is met first may depend on the last bits.
    good = whole.status < 10
    np.testing.assert_array_equal(pieces.status[~good], whole.status[~good])
    np.testing.assert_array_equal(pieces.rank[good], whole.rank[good])
    # A second look at what slopes say nothing of may hold one parameter or both.
    np.testing.assert_array_equal(pieces.rank[~good] < 2, whole.rank[~good] < 2)
    for name in ("slope", "intercept"):
        gap, error = pieces.params[name] - whole.params[name], whole.stderr[name]
        np.testing.assert_allclose(gap[good] / error[good], 0, rtol=0, atol=1e-9)
        np.testing.assert_array_equal(np.isnan(gap), np.isnan(whole.params[name]))
        np.testing.assert_allclose(pieces.stderr[name], error, rtol=1e-9)
    for name in FIELDS:
        a, b = getattr(pieces, name), getattr(whole, name)
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("errors", ERRORS)
def test_ragged_lines_with_all_kinds_of_errors(errors, rng, monkeypatch, piece_by_piece):
    sizes = rng.integers(3, 30, COUNT)
    x, y, e, group = cloud(rng, sizes)
    assert_same(*both_ways(monkeypatch, x, y, **ERRORS[errors](e), groups=group))
    # Room for a piece and one line more, in whole registers.
    room = -(-(64 + sizes.max()) // LANES) * LANES
    assert len(piece_by_piece) - 1 >= sizes.sum() / room
    assert set(piece_by_piece[:-1]) == {room}


def test_the_same_text_runs_as_python(rng, monkeypatch, piece_by_piece):
    monkeypatch.setenv("GRADFIT_JIT", "0")
    x, y, e, group = cloud(rng, rng.integers(3, 12, 12))
    assert_same(*both_ways(monkeypatch, x, y, *e, groups=group))


def test_points_in_any_order_and_rows_left_out(rng, monkeypatch, piece_by_piece):
    x, y, e, group = cloud(rng, rng.integers(4, 12, COUNT))
    order = rng.permutation(x.size)
    x, y, group, e = x[order], y[order], group[order], [v[order] for v in e]
    x[7] = np.nan
    pieces, whole = both_ways(monkeypatch, x, y, *e, groups=group, nan_policy="omit")
    assert_same(pieces, whole)
    assert np.isnan(pieces.x_hat[7])
    assert pieces.group[7] == -1


@pytest.mark.filterwarnings("ignore::gradfit.errors.ConvergenceWarning")
def test_lines_that_cannot_be_fitted_have_their_own_status(rng, monkeypatch, piece_by_piece):
    sizes = rng.integers(3, 12, COUNT)
    sizes[5], sizes[40] = 1, 100
    x, y, e, group = cloud(rng, sizes)
    y[np.flatnonzero(group == 9)[0]] = np.nan
    same = group == 12
    x[same], y[same] = 3.0, 4.0
    pieces, whole = both_ways(monkeypatch, x, y, *e, groups=group)
    assert_same(pieces, whole)
    assert pieces.status[5] == gf.Status.TOO_FEW_POINTS
    assert pieces.status[9] == gf.Status.BAD_DATA
    assert pieces.status[12] == gf.Status.SINGULAR
    assert set(piece_by_piece[:-1]) == {168}


def test_vertical_and_horizontal_lines(monkeypatch, piece_by_piece):
    t = np.arange(6.0)
    x, y = np.concatenate([t, 0 * t + 2, t]), np.concatenate([0 * t + 1, t, t])
    group = np.repeat(["flat", "upright", "between"], 6)
    with pytest.warns(gf.errors.ConvergenceWarning, match="1 DEGENERATE"):
        pieces, whole = both_ways(monkeypatch, x, y, 0.1, 0.1, groups=group)
    assert pieces.success.tolist() == whole.success.tolist() == [True, False, True]
    assert pieces.params["slope"].tolist() == [0, np.inf, 1]
    assert whole.params["slope"].tolist() == [0, np.inf, 1]
    np.testing.assert_array_equal(np.isnan(pieces.params["intercept"]), [False, True, False])
    np.testing.assert_array_equal(pieces.cov[1], whole.cov[1])


def test_tensors_come_back_as_tensors(rng, monkeypatch, piece_by_piece):
    x, y, e, group = cloud(rng, np.full(COUNT, 8))
    given = [torch.from_numpy(v) for v in (x, y, *e)]
    pieces = gf.line(*given, groups=torch.from_numpy(group), backend="native")
    whole = gf.line(x, y, *e, groups=group, backend="native")
    assert isinstance(pieces.x_hat, torch.Tensor)
    assert isinstance(pieces.cov, torch.Tensor)
    np.testing.assert_array_equal(pieces.x_hat.numpy(), whole.x_hat)


def test_threads_change_nothing(rng, monkeypatch, piece_by_piece):
    x, y, e, group = cloud(rng, rng.integers(3, 30, COUNT))
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(many.torch, "get_num_threads", lambda threads=threads: threads)
        found.append(gf.line(x, y, *e, groups=group, backend="native"))
    for name in (*EXACT, *FIELDS):
        a, b = (getattr(each, name) for each in found)
        np.testing.assert_array_equal(a, b, err_msg=name)


def test_points_are_not_walked_over_together(rng, monkeypatch, piece_by_piece):
    """Frames of all points at once would be forty walks through memory."""
    framed, frame_of = [], straight.frame_of
    monkeypatch.setattr(
        straight, "frame_of", lambda data, n: framed.append(data.x.shape[1]) or frame_of(data, n)
    )
    x, y, e, group = cloud(rng, np.full(COUNT, 20))
    gf.line(x, y, *e, groups=group, backend="native")
    assert framed == [many.FEW]


@pytest.mark.parametrize(
    "errors", [{"sx": 0.0, "sy": 0.1}, {"sy": 0.1}, {"cov": [[0.01, 0.0], [0.0, 0.02]]}]
)
def test_errors_that_ask_for_care_go_through_as_one(errors, rng, piece_by_piece):
    x, y, _, group = cloud(rng, np.full(COUNT, 8))
    gf.line(x, y, **errors, groups=group, backend="native")
    assert piece_by_piece == [x.size]
