"""What is wrong with an argument of `fit` is told in one line, before the model is evaluated."""

from typing import Any

import numpy as np
import pytest
import torch

import gradfit as gf
from gradfit.errors import InputError

X = np.linspace(0, 5, 8)
Y = 2 * X + 1 + 0.1 * np.cos(5 * X)
IDS = np.repeat([0, 1], 4)
ONE_EXACT = np.where(np.arange(8)[:, None, None] == 3, 0, np.eye(2))


def never(x: Any, a: Any, b: Any) -> Any:
    raise AssertionError("the model was evaluated")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"systematic": 0.1}, "`systematic` must be a sequence, as .*; got 0.1"),
    ({"systematic": "x"}, "`systematic` must be a sequence, as .*; got 'x'"),
    ({"systematic": [{"x": 1j}]}, r"`systematic\[0\]\['x'\]` must hold numbers, got complex"),
    ({"systematic": [{"x": [[1, 2], [3]]}]}, r"`systematic\[0\]\['x'\]` is ragged"),
    ({"systematic": [0.1]}, r"`systematic\[0\]` must be a mapping with one-sigma shifts"),
    ({"systematic": [{"z": 0.1}]}, r"`systematic\[0\]` must be a mapping"),
    (
        {"systematic": [{"x": "a"}]},
        r"`systematic\[0\]\['x'\]` is the text 'a'. Names of columns",
    ),
    ({"systematic": [{"y": [0.1, 0.2]}]}, r"`systematic\[0\]\['y'\]` must be a number or have sh"),
    (
        {"systematic": [{"y": np.where(X > 4, np.nan, 0.1)}]},
        r"must be finite; 2 of 8 values are wrong \(first at index 6: nan\)",
    ),
    ({"cov_joint": "a"}, "`cov_joint` must hold numbers, got text"),
    ({"cov_joint": [["a"]]}, "`cov_joint` must hold numbers, got text"),
    ({"cov_joint": [[1, 2], [3]]}, "`cov_joint` is ragged"),
    ({"cov_joint": 1j * np.eye(16)}, "`cov_joint` must hold numbers, got complex"),
    ({"cov_joint": np.zeros((16, 16))}, "`cov_joint` leaves no error at 8 of 8 points"),
    (
        {"cov_joint": np.diag([1.0] * 3 + [0] + [1] * 7 + [0] + [1] * 4)},
        r"`cov_joint` leaves no error at 1 of 8 points \(first at index 3\)",
    ),
    (
        {"cov_joint": np.diag([0.0] + [1] * 15) + 0.1 * (np.eye(16, k=1) + np.eye(16, k=-1))},
        r"`cov_joint` must be 0 beside a variance of 0; 2 of 256 v.*\(0, 1\): 0.1\)",
    ),
    ({"cov_joint": np.eye(15)}, r"`cov_joint` must have shape \(16, 16\), all x before all y"),
    ({"cov_joint": np.triu(np.ones((16, 16)))}, r"`cov_joint` must be symmetric; .*\(0, 1\)"),
    ({"cov_joint": -np.eye(16)}, "`cov_joint` must have no negative variance; 16 of 16"),
    ({"cov_joint": np.ones((16, 16))}, "`cov_joint` must be positive definite"),
    ({"cov_joint": np.full((16, 16), np.nan)}, "`cov_joint` must be finite"),
    ({"cov_joint": np.eye(16), "sx": 0.1}, "`cov_joint` holds all errors; leave `sx`"),
    ({"cov_joint": np.eye(16), "groups": IDS}, "`cov_joint` describes one fit"),
    (
        {"cov_joint": np.eye(16), "systematic": [{"x": 0.1}]},
        "`cov_joint` holds all errors; leave `",
    ),
    ({"shared": "a"}, "`shared` names parameters that groups have in common; give `groups`"),
    ({"shared": ["c"], "groups": IDS}, "`shared` names 'c', which is no parameter"),
    ({"fixed": {"c": 1.0}}, "`fixed` names 'c', which is no parameter of 'never'"),
    ({"bounds": {"c": (0, 1)}}, "`bounds` names 'c', which is no parameter"),
    ({"bounds": {"a": 3}}, r"`bounds` of 'a' must be a pair \(lower, upper\)"),
    ({"bounds": {"a": (2, 1)}}, r"`bounds` of 'a' must rise; got \(2, 1\)"),
    ({"bounds": {"a": (np.nan, 1)}}, "`bounds` of 'a' must rise"),
    ({"bounds": {"a": (5, 6)}}, r"`start` of 'a' is 1, outside its bounds \(5, 6\)"),
    ({"fixed": ["a"]}, r"`fixed` must be a mapping from names, as {\"a\": 1.0}; got \['a'\]"),
    ({"fixed": {"a": "x"}}, "`fixed` of 'a' must be one number, got 'x'"),
    ({"fixed": {"a": [1, 2]}, "groups": IDS}, r"`fixed` of 'a' must be one number, got \[1, 2\]"),
    ({"fixed": {"a": None}}, "`fixed` of 'a' must be one number, got None"),
    ({"fixed": {"a": True}}, "`fixed` of 'a' must be one number, got True"),
    ({"fixed": {"a": np.nan}}, "`fixed` of 'a' must be finite, got nan"),
    (
        {"fixed": {"a": 5}, "bounds": {"a": (0, 1)}},
        r"`fixed` of 'a' is 5, outside its bounds \(0, 1\)",
    ),
    ({"bounds": 0}, "`bounds` must be a mapping from names, as .*; got 0"),
    ({"bounds": [(0, 1), (0, 1)]}, "`bounds` must be a mapping from names, as .*; got "),
    ({"bounds": ([0, 0], [1, 1])}, "`bounds` must be a mapping from names, as .*; got "),
    ({"bounds": {"a": "ab"}}, r"`bounds` of 'a' must be a pair \(lower, upper\)"),
    ({"bounds": {"a": (0, 1, 2)}}, r"`bounds` of 'a' must be a pair \(lower, upper\)"),
    ({"bounds": {"a": ("0", None)}}, "`bounds` of 'a': a limit must be one number, got '0'"),
    ({"bounds": {"a": ([0, 1], 2)}}, r"`bounds` of 'a': a limit must be one number, got \[0, 1\]"),
    ({"shared": 3, "groups": IDS}, "`shared` must be a sequence, as .*; got 3"),
    ({"shared": [0], "groups": IDS}, "`shared` names 0, which is no parameter"),
    ({"absolute_sigma": "yes"}, "`absolute_sigma` must be True or False, got 'yes'"),
    ({"fix_x": "yes"}, "`fix_x` must hold True or False, got 'yes'"),
    ({"fix_x": [True] * 7 + [None]}, "`fix_x` must hold True or False, got None"),
    ({"fix_x": [[True], [True, False]]}, "`fix_x` is ragged"),
    ({"fix_x": torch.ones(8)}, "`fix_x` must hold True or False, got torch.float32"),
    ({"loss": None}, "`loss` must be a name or a name and a scale, .*; got None"),
    ({"loss": ("huber", 1, 2)}, "`loss` must be a name or a name and a scale"),
    ({"loss": abs}, "`loss` must be a name or a name and a scale"),
    ({"loss": (["huber"], 1)}, "`loss` must be one of linear, "),
    ({"loss": ("huber", "1")}, "`loss` needs a scale, which must be one number, got '1'"),
    ({"loss": ("huber", 1e200)}, r"`loss` needs a scale between 1e-100 and 1e\+100 sigmas"),
    ({"loss": ("huber", np.inf)}, r"`loss` needs a scale between 1e-100 and 1e\+100 sigmas"),
    ({"loss": ("huber", np.nan)}, "`loss` needs a scale above 0, in sigmas; got nan"),
    ({"loss": ("linear", 2)}, '`loss` "linear" has no scale, got 2'),
    ({"max_steps": "a"}, "`max_steps` must be one number, got 'a'"),
    ({"max_steps": 2.5}, "`max_steps` must be a whole number, got 2.5"),
    ({"max_steps": np.inf}, "`max_steps` must be finite, got inf"),
    ({"gtol": None}, "`gtol` must be one number, got None"),
    ({"xtol": [1e-3, 1e-3]}, r"`xtol` must be one number, got \[0.001, 0.001\]"),
    ({"fix_x": [0.0] * 8}, "`fix_x` must hold True or False"),
    ({"fix_x": [True, False, True]}, r"`fix_x` must have shape \(8,\)"),
    ({"loss": "l1"}, "`loss` must be one of linear, "),
    ({"loss": ("huber", 0.0)}, "`loss` needs a scale above 0, in sigmas; got 0.0"),
    ({"cov_type": "naive"}, "`cov_type` must be one of expected, "),
    ({"backend": "gpu"}, "`backend` must be one of auto, "),
    ({"gtol": -1.0}, "`gtol` must be at least 0 and below 1"),
    ({"ftol": 1.0}, "`ftol` must be at least 0 and below 1"),
    ({"xtol": float("nan")}, "`xtol` must be at least 0 and below 1"),
    ({"max_steps": 0}, "`max_steps` must be at least 1"),
    ({"cov": np.zeros((2, 2))}, r"`cov` leaves no error at 8 of 8 points \(first at index 0\)"),
    ({"cov": ONE_EXACT}, r"`cov` leaves no error at 1 of 8 points \(first at index 3\)"),
    ({"cov": np.diag([1, 0]), "fix_x": True}, "`cov` and `fix_x` leave no error at 8 of 8 points"),
    (
        {"cov": np.diag([1, 0]), "fix_x": [True] + [False] * 7},
        r"`cov` and `fix_x` leave no error at 1 of 8 points \(first at index 0\)",
    ),
    ({"sx": 0}, "`sx` leaves no error at 8 of 8 points"),
    ({"sx": 0, "sy": np.where(X > 3, 0, 1)}, r"`sx` and `sy` leave no error at 3 of 8 points"),
    ({"sx": 1, "sy": 0.0, "fix_x": True}, "`sx`, `sy` and `fix_x` leave no error"),
    ({"cov": np.eye(3)}, r"`cov` must have shape \(2, 2\) or \(8, 2, 2\)"),
    ({"cov": [[1, 2], [2, 1]]}, "`cov` is not positive semidefinite"),
    ({"cov": [[1, 0.5], [0.4, 1]]}, "`cov` is not symmetric"),
    ({"cov": np.eye(2), "sy": 1.0}, "`cov` takes the place of `sy`"),
    ({"rho": 0.5}, "`rho` needs `sx` and `sy`"),
    ({"rho": 1.5, "sx": 1.0, "sy": 1.0}, "`rho` must lie between -1 and 1"),
    ({"groups": [1, 2]}, "`groups`"),
    ({"nan_policy": "drop"}, '`nan_policy` must be "raise" or "omit"'),
    ({"start": {"a": 1}}, "`start` gives no value for b"),
    ({"start": [1, 2, 3]}, "`start` has 3 values, but 'never' has 2 parameters"),
    ({"start": {"a": 1, "b": "two"}}, "`start` of 'b' must be one number, got 'two'"),
    ({"start": {"a": 1, "b": float("inf")}}, "`start` of 'b' must be finite"),
]


@pytest.mark.parametrize(("options", "match"), WRONG, ids=[m[:60] for _, m in WRONG])
def test_wrong_argument_is_told_in_one_line(options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        gf.fit(never, X, Y, **({"start": {"a": 1, "b": 1}} | options))
    assert "\n" not in str(caught.value)


TABLE = {"t": X, "v": Y, "off": 0.1 * Y, "hole": np.where(X[3] == X, np.nan, 0.1)}


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"x": "tt"}, r"`systematic\[1\]\['x'\]` names column 'tt', which `data` has not"),
        (
            {"y": "hole"},
            r"`systematic\[1\]\['y'\]` \(column 'hole'\) must be finite; 1 of 8 .* index 3",
        ),
        (
            {"x": ["off", "hole"]},
            r"`systematic\[1\]\['x'\]` \(column 'hole'\) must be finite; 1 of 8",
        ),
    ],
)
def test_columns_of_shared_errors_are_told_by_name(given: dict[str, Any], match: str) -> None:
    x = ["t", "off"] if isinstance(given.get("x"), list) else "t"
    with pytest.raises(InputError, match=match):
        gf.fit(
            never,
            data=TABLE,
            x=x,
            y="v",
            start={"a": 1, "b": 1},
            systematic=[{"y": "off"}, given],
        )


def test_shift_of_y_needs_a_y() -> None:
    with pytest.raises(InputError, match="is given, but the model is implicit: there is no y"):
        gf.fit(never, np.stack([X, Y]), start={"a": 1, "b": 1}, systematic=[{"y": 0.1}])


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"sx": 0}, "`sx` leaves"),
        ({"cov": np.zeros((2, 2))}, "`cov` leaves"),
        ({"cov": ONE_EXACT}, "`cov` leaves"),
        ({"fix_x": True}, "`fix_x` leaves"),
        ({"sx": [1.0, 0.0], "fix_x": [True, False]}, "`sx` and `fix_x` leave"),
    ],
)
def test_points_of_an_implicit_model_need_an_error(options: dict[str, Any], names: str) -> None:
    with pytest.raises(InputError, match=f"{names} no error at [18] of 8 points"):
        gf.fit(never, np.stack([X, Y]), start={"a": 1, "b": 1}, **options)


def test_more_equations_than_coordinates_with_an_error_are_told_as_such() -> None:
    def three(x: Any, a: Any, b: Any) -> Any:
        return torch.stack([x[0] - a, x[1] - b, x[0] * x[1] - a])

    points, start = np.stack([X, Y]), {"a": 1, "b": 1}
    with pytest.raises(InputError, match="`model` has 3 equations for each point, but only 2 of"):
        gf.fit(three, points, start=start)
    with pytest.raises(
        InputError, match=r"but only 1 of 2 coordinates have an error at 8 of 8 points"
    ):
        gf.fit(lambda x, a, b: three(x, a, b)[:2], points, start=start, sx=[1, 0])


def test_prepared_fits_need_as_many_errors_and_points_as_others_do() -> None:
    def two(x: Any, a: Any, b: Any) -> Any:
        return torch.stack([x[0] - a, x[1] - b])

    with pytest.raises(InputError, match="`model` has 2 equations for each point, but only 1 of 2"):
        gf.prepare(two, start=[1, 1], sx=[1, 0])(np.stack([X, Y]))
    with pytest.raises(InputError, match="1 point cannot determine 2 parameters"):
        gf.prepare("a + b*x", start=[1, 1])([1.0], [2.0])


def test_one_point_is_one() -> None:
    with pytest.raises(InputError, match=r"1 point cannot determine 2 parameters \(a, b\)"):
        gf.fit("a + b*x", [1.0], [2.0], start=[1, 1])
    with pytest.raises(InputError, match="1 point cannot determine a circle: give at least 3"):
        gf.shapes.circle([0], [1])


def test_a_value_missing_in_one_of_several_columns_is_told_by_the_name_of_the_column() -> None:
    table = {"t": X, "u": np.where(X[2] == X, np.nan, X), "v": Y}
    with pytest.raises(
        InputError, match=r"`x` \(column 'u'\) must be finite; 1 of 8 .* index 2: nan"
    ):
        gf.fit("a*t + b*u", data=table, x=["t", "u"], y="v", start=[1, 1])


def test_index_of_a_point_without_an_error_is_that_of_the_data() -> None:
    with pytest.raises(InputError, match=r"first at index 5\)"):
        gf.fit(never, X, Y, start=[1, 1], groups=[1, 0] * 4, sx=0, sy=np.where(X[5] == X, 0, 1))


def test_too_many_coordinates_for_a_full_covariance_are_refused_before_they_are_looked_at() -> None:
    n = 1001
    with pytest.raises(InputError, match="may describe at most 2000 coordinates, got 2002"):
        gf.fit(never, np.zeros(n), np.zeros(n), start=[1, 1], cov_joint=np.zeros((2 * n, 2 * n)))
