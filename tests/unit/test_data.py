"""The gate: every kind of input becomes the same float64 tensors, every fault one clear line."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradfit._data import gather
from gradfit.errors import InputError

X = [1.0, 2.0, 3.0, 4.0]
Y = [2.0, 4.0, 6.0, 9.0]


def same(a, b):
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=torch.float64), rtol=0, atol=0)


KINDS = {
    "list": lambda v: v,
    "tuple": tuple,
    "ints": lambda v: [int(i) for i in v],
    "numpy": np.array,
    "float32": lambda v: np.array(v, dtype=np.float32),
    "int16": lambda v: np.array(v, dtype=np.int16),
    "big endian": lambda v: np.array(v, dtype=">f8"),
    "object": lambda v: np.array(v, dtype=object),
    "masked": lambda v: np.ma.array(v),
    "strided": lambda v: np.repeat(v, 2)[::2],
    "reversed": lambda v: np.array(v[::-1])[::-1],
    "tensor": torch.tensor,
    "tensor of halves": lambda v: torch.tensor(v, dtype=torch.float16),
    "tensor with gradient": lambda v: torch.tensor(v, requires_grad=True),
    "pandas": pd.Series,
    "pandas nullable": lambda v: pd.Series(v, dtype="Float64"),
    "polars": pl.Series,
    "arrow": lambda v: pa.chunked_array([v[:2], v[2:]]),
    "range": lambda v: range(1, 5) if v == X else v,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_numbers_gives_the_same_tensors(kind):
    make = KINDS[kind]
    data = gather(make(X), make(Y), make(X), make(Y))
    for got, expected in ((data.x, [X]), (data.y, [Y]), (data.sx, [X]), (data.sy, [Y])):
        same(got, expected)
        assert got.is_contiguous()
        assert not got.requires_grad
    assert data.vector_x
    assert data.vector_y
    assert data.as_torch == kind.startswith("tensor")
    assert data.x_names == ("x",)
    assert data.y_names == ("y",)
    assert data.index.tolist() == [0, 1, 2, 3]
    assert data.n_rows == 4


@pytest.mark.parametrize("writable", [True, False])
def test_contiguous_doubles_are_not_copied(writable):
    x = np.arange(5.0)
    x.flags.writeable = writable
    t = torch.arange(5.0, dtype=torch.float64)
    data = gather(x, t)
    assert data.x.data_ptr() == x.ctypes.data
    assert data.y.data_ptr() == t.data_ptr()


def test_several_variables_and_responses_keep_their_axes():
    x, y = np.arange(6.0).reshape(2, 3), np.arange(9.0).reshape(3, 3)
    data = gather(x, y)
    same(data.x, x)
    same(data.y, y)
    assert not data.vector_x
    assert not data.vector_y
    assert data.x_names == ("x[0]", "x[1]")
    assert data.y_names == ("y[0]", "y[1]", "y[2]")


def test_an_implicit_model_has_no_y():
    data = gather(np.ones((2, 3)), sx=0.1)
    assert data.y is None
    assert data.y_names == ()


@pytest.mark.parametrize(
    ("sx", "expected"),
    [
        (0.1, [[0.1], [0.1]]),
        ([0.1, 0.2], [[0.1], [0.2]]),
        ([0.1, 0.2, 0.3], [[0.1, 0.2, 0.3]] * 2),
        ([[0.1], [0.2]], [[0.1], [0.2]]),
        ([[0.1, 0.2, 0.3]], [[0.1, 0.2, 0.3]] * 2),
        ([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]),
    ],
)
def test_sigmas_belong_to_all_to_points_to_variables_or_to_both(sx, expected):
    same(gather(np.ones((2, 3)), np.ones(3), sx).sx, expected)


def test_one_axis_means_points_where_it_could_be_either():
    same(gather(np.ones((2, 2)), np.ones(2), [0.1, 0.2]).sx, [[0.1, 0.2], [0.1, 0.2]])


def test_correlation_and_covariance_have_points_last():
    same(gather(X, Y, 1, 1, rho=0.5).rho, [0.5])
    same(gather(X, Y, 1, 1, rho=[0.1, 0.2, 0.3, -1]).rho, [0.1, 0.2, 0.3, -1])
    one = np.array([[2.0, 0.5], [0.5, 1.0]])
    same(gather(X, Y, cov=one).cov, one[:, :, None])
    many = np.stack([one * (k + 1) for k in range(4)])
    same(gather(X, Y, cov=many).cov, many.transpose(1, 2, 0))


def test_singular_covariances_are_welcome():
    for cov in (
        [[1.0, 1.0], [1.0, 1.0]],
        [[0.0, 0.0], [0.0, 1.0]],
        [[1e-20, 1e-22], [1e-22, 1e-24]],
    ):
        same(gather(X, Y, cov=cov).cov[..., 0], cov)
    v = np.array([[1.0, 2.0, 3.0]])
    same(gather(np.ones((2, 4)), Y, cov=v.T @ v).cov[..., 0], v.T @ v)


FRAMES = {
    "dict": dict,
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "lazy": lambda d: pl.DataFrame(d).lazy(),
    "arrow": pa.table,
    "records": lambda d: pd.DataFrame(d).to_records(index=False),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_columns_come_by_name_from_any_frame(kind):
    frame = FRAMES[kind]({"time": X, "signal": Y, "dt": [0.1] * 4, "who": ["b", "b", "a", "a"]})
    data = gather("time", "signal", "dt", 0.5, groups="who", data=frame)
    same(data.x, [X])
    same(data.y, [Y])
    same(data.sx, [[0.1] * 4])
    same(data.sy, [[0.5]])
    assert data.keys == ("b", "a")
    assert data.x_names == ("time",)
    assert data.y_names == ("signal",)


def test_lists_of_columns_and_numbers_are_variables():
    frame = {"u": X, "v": Y, "su": [0.1, 0.2, 0.3, 0.4]}
    data = gather(["u", "v"], "v", ["su", 0.5], data=frame)
    same(data.x, [X, Y])
    same(data.sx, [[0.1, 0.2, 0.3, 0.4], [0.5] * 4])
    assert data.x_names == ("u", "v")
    assert not data.vector_x


def test_arrays_go_along_with_names():
    data = gather("u", np.array(Y), data={"u": X})
    same(data.y, [Y])


@pytest.mark.parametrize(
    "frame", [pl.DataFrame, pa.table, lambda d: pd.DataFrame(d, dtype="Float64")]
)
def test_missing_cells_are_nan(frame):
    data = gather("u", "v", data=frame({"u": [1.0, None, 3.0], "v": Y[:3]}), nan_policy="omit")
    same(data.x, [[1.0, 3.0]])
    assert data.index.tolist() == [0, 2]
    assert data.n_rows == 3


def test_omit_drops_rows_with_anything_not_finite():
    bad = {key: list(Y) for key in ("x", "y", "sx", "sy")}
    bad["y"][0], bad["sx"][1] = np.nan, np.inf
    data = gather(**bad, rho=[0.0, 0.0, np.nan, 0.1], nan_policy="omit")
    assert data.index.tolist() == [3]
    for t in (data.x, data.y, data.sx, data.sy):
        same(t, [[9.0]])
    same(data.rho, [0.1])


def test_omit_drops_rows_of_covariances_too():
    cov = np.stack([np.eye(2)] * 4)
    cov[1, 0, 0] = np.nan
    data = gather(X, Y, cov=cov, nan_policy="omit")
    assert data.index.tolist() == [0, 2, 3]
    assert data.cov.shape == (2, 2, 3)


def test_huge_numbers_whose_sum_overflows_are_finite():
    same(gather([1e308, 1e308, -1e308], [0.0, 1.0, 2.0]).x, [[1e308, 1e308, -1e308]])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_groups_come_together_in_order_of_first_appearance(labels):
    x = np.arange(len(labels), dtype=float)
    data = gather(x, -x, x, groups=labels)
    assert list(data.keys) == list(dict.fromkeys(labels))
    assert data.group.tolist() == sorted(data.group.tolist())
    assert [labels[i] for i in data.index] == [data.keys[g] for g in data.group]
    same(data.x[0], x[data.index.numpy()])
    same(data.y[0], -x[data.index.numpy()])
    same(data.sx[0], x[data.index.numpy()])
    starts = np.flatnonzero(np.diff(data.group.numpy())) + 1
    assert all((np.diff(part) > 0).all() for part in np.split(data.index.numpy(), starts))


@pytest.mark.parametrize(
    "labels",
    [
        ["b", "b", "a", "a"],
        np.array(["b", "b", "a", "a"]),
        pd.Series(["b", "b", "a", "a"], dtype="category"),
        pl.Series(["b", "b", "a", "a"]),
        torch.tensor([7, 7, 3, 3]),
        [("run", 2), ("run", 2), ("run", 1), ("run", 1)],
        [1, 1, "one", "one"],
    ],
    ids=["list", "numpy", "pandas", "polars", "tensor", "tuples", "mixed"],
)
def test_labels_may_be_anything_that_compares(labels):
    data = gather(X, Y, groups=labels)
    assert data.group.tolist() == [0, 0, 1, 1]
    assert len(data.keys) == 2
    first = labels[0].item() if isinstance(labels, torch.Tensor) else labels[0]
    assert data.keys[0] == first


def test_nan_in_a_group_stays_and_is_told_by_the_fit():
    data = gather([1.0, np.nan, 3.0], [1.0, 2.0, 3.0], groups=[0, 0, 1])
    assert torch.isnan(data.x[0, 1])
    omitted = gather([1.0, np.nan, 3.0], Y[:3], groups=[0, 1, 2], nan_policy="omit")
    assert omitted.keys == (0, 1, 2)
    assert omitted.group.tolist() == [0, 2]


def fault(reason: str, **arguments: object):
    return pytest.param(arguments, reason, id=reason[:40])


DATES = np.array(["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"], dtype="M8[D]")
FAULTS = [
    fault(r"`x` is missing", x=None, y=Y),
    fault(r"`x` is empty", x=[], y=[]),
    fault(r"4 in `x`, 3 in `y`. Points are the last axis", x=X, y=Y[:3]),
    fault(r"2 in `x`, 4 in `y`", x=np.ones((4, 2)), y=Y),
    fault(r"`x` must have shape \(N,\) or \(variables, N\), got \(\)", x=3.0, y=Y),
    fault(r"got \(1, 1, 4\)", x=np.ones((1, 1, 4)), y=Y),
    fault(
        r"`y` must be finite; 2 of 4 values are wrong \(first at index 1: nan\)",
        x=X,
        y=[1.0, np.nan, 3.0, np.inf],
    ),
    fault(r"first at index \(1, 2\): inf", x=np.array([X, [1, 2, np.inf, 4]]), y=Y),
    fault(r"`sx` must be finite, got nan", x=X, y=Y, sx=np.nan),
    fault(
        r"`sy` must not be negative; 1 of 4 values is wrong \(first at index 1: -0.3\)",
        x=X,
        y=Y,
        sy=[0.1, -0.3, 0.1, 0],
    ),
    fault(r"`sy` must not be negative, got -1", x=X, y=Y, sy=-1),
    fault(r"`sx` must not be negative", x=X, y=Y, sx=[np.nan, -1, 1, 1], groups=[1, 1, 2, 2]),
    fault(r"`sx` must be a number or have shape \(4,\), got \(2,\)", x=X, y=Y, sx=[0.1, 0.2]),
    fault(
        r"shape \(4,\), \(2,\) or \(2, 4\), got \(4, 2\)",
        x=np.ones((2, 4)),
        y=Y,
        sx=np.ones((4, 2)),
    ),
    fault(r"`sy` is given, but `y` is not", x=X, sy=0.1),
    fault(
        r"`rho` must lie between -1 and 1; 1 of 4 values is wrong \(first at index 1: 1.5\)",
        x=X,
        y=Y,
        sx=1,
        sy=1,
        rho=[0, 1.5, 0, 0],
    ),
    fault(r"`rho` needs `sx` and `sy`; `sy` is not given", x=X, y=Y, sx=1, rho=0.1),
    fault(r"one x and one y, got 2 and 1", x=np.ones((2, 4)), y=Y, sx=1, sy=1, rho=0.1),
    fault(r"shape \(4,\), got \(2,\)", x=X, y=Y, sx=1, sy=1, rho=[0.1, 0.2]),
    fault(r"`cov` must have shape \(2, 2\) or \(4, 2, 2\), got \(3, 3\)", x=X, y=Y, cov=np.eye(3)),
    fault(r"`cov` takes the place of `sx`", x=X, y=Y, cov=np.eye(2), sx=1),
    fault(r"`cov` is not symmetric", x=X, y=Y, cov=[[1, 0.5], [0.2, 1]]),
    fault(r"`cov` is not positive semidefinite", x=X, y=Y, cov=[[1, 2], [2, 1]]),
    fault(r"`cov` is not positive semidefinite", x=X, y=Y, cov=[[0, 0.1], [0.1, 1]]),
    fault(r"`cov` has a negative variance", x=X, y=Y, cov=[[-1, 0], [0, 1]]),
    fault(
        r"1 of 4 matrices \(first at index 3\)", x=X, y=Y, cov=[np.eye(2)] * 3 + [[[1, 2], [2, 1]]]
    ),
    fault(r"not positive semidefinite", x=np.ones((2, 4)), y=Y, cov=1.5 * np.eye(3) - 1),
    fault(r"`x` must hold numbers, got text \(first value '1'\)", x=["1", "2", "3", "4"], y=Y),
    fault(r"`x` must hold numbers, got text", x=[1, "2", 3.0, 4], y=Y),
    fault(r"got '2' at index 1", x=np.array([1, "2", 3, 4], dtype=object), y=Y),
    fault(r"got list at index 1", x=np.array([1, [2], 3, 4], dtype=object), y=Y),
    fault(r"`x` must hold numbers, got True and False", x=[True, False, True, True], y=Y),
    fault(r"`sx` must hold numbers, got True and False", x=X, y=Y, sx=True),
    fault(r"`x` must hold real numbers, got torch.bool", x=torch.tensor([True] * 4), y=Y),
    fault(r"`x` must hold numbers, got complex numbers", x=np.array(X) * 1j, y=Y),
    fault(r"datetime64\[D\].*seconds since a start", x=DATES, y=Y),
    fault(r"`x` is ragged: its rows have \[1, 2\] values", x=[[1, 2], [3]], y=Y),
    fault(r"`x` is the text 'time'. Names of columns need a table", x="time", y=Y),
    fault(
        r"`groups` must hold one label per point, shape \(4,\); got shape \(2,\)",
        x=X,
        y=Y,
        groups=[1, 2],
    ),
    fault(
        r"`groups` has no label for 1 of 4 points \(first at index 1\)",
        x=X,
        y=Y,
        groups=["a", None, "b", "b"],
    ),
    fault(r"no label for 1 of 4 points", x=X, y=Y, groups=[1.0, np.nan, 2.0, 2.0]),
    fault(
        r"`groups` must hold labels that can be compared", x=X, y=Y, groups=[[1], [2], [3], [{}]]
    ),
    fault(r"every row holds NaN or inf", x=[np.nan] * 4, y=Y, nan_policy="omit"),
    fault(r'`nan_policy` must be "raise" or "omit", got \'drop\'', x=X, y=Y, nan_policy="drop"),
]


@pytest.mark.parametrize(("arguments", "reason"), FAULTS)
def test_a_fault_is_one_line_with_argument_expectation_value_and_place(arguments, reason):
    with pytest.raises(InputError, match=reason) as caught:
        gather(**arguments)
    assert "\n" not in str(caught.value)


FRAME = {"time": X, "Signal": Y, "who": ["a", "b", "c", "d"], "bad": [1.0, np.nan, 2.0, 3.0]}


@pytest.mark.parametrize("frame", [dict, pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        fault(
            r"`x` names column 'tim', which `data` has not. Did you mean 'time'",
            x="tim",
            y="Signal",
        ),
        fault(r"Did you mean 'Signal'", x="time", y="signal"),
        fault(r"Its columns are time, Signal, who, bad", x="time", y="zzz"),
        fault(r"`y` \(column 'who'\) must hold numbers", x="time", y="who"),
        fault(
            r"`y` \(column 'bad'\) must be finite; 1 of 4 values is wrong \(first at index 1",
            x="time",
            y="bad",
        ),
        fault(r"`x` must name a column of `data`", x=None, y="Signal"),
    ],
)
def test_a_fault_in_a_frame_names_its_column(frame, arguments, reason):
    with pytest.raises(InputError, match=reason):
        gather(**arguments, data=frame(FRAME))


def test_what_is_no_table_is_refused():
    with pytest.raises(
        InputError, match=r"`data` must be a data frame or a dict of arrays, got ndarray"
    ):
        gather("x", "y", data=np.ones((4, 2)))


def test_read_only_arrays_come_in_without_a_warning():
    x = np.arange(4.0)
    x.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gather(x, Y)
