"""Labels of groups: one number each in order of first appearance, whatever they are."""

import datetime
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gradfit as gf
from gradfit._data import groups
from gradfit._data.groups import number_groups

DAY = datetime.datetime(2024, 1, 1)
LABELS = {
    "numbers": lambda k: k,
    "few numbers": lambda k: k % 3,
    "fractions": lambda k: k / 3,
    "texts": lambda k: "abcdefgh"[k % 8] * (1 + k % 3),
    "truths": lambda k: bool(k % 2),
    "pairs": lambda k: (k % 4, "x"),
    "mixed": lambda k: k if k % 2 else str(k),
    "days": lambda k: np.datetime64(DAY + datetime.timedelta(days=k)),
}


def by_hand(labels):
    keys = tuple(dict.fromkeys(labels))
    number = [keys.index(v) for v in labels]
    sizes = [number.count(k) for k in range(len(keys))]
    order = sorted(range(len(labels)), key=number.__getitem__)
    return number, keys, sizes, order


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("kept", ["as they come", "together", "in order"])
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_groups_are_those_that_a_dictionary_finds(kind, kept, drawn):
    if kept == "in order":
        drawn = sorted(drawn)
    labels = [LABELS[kind](k) for k in drawn]
    if kept == "together":
        labels = sorted(labels, key=[*dict.fromkeys(labels)].index)
    number, keys, sizes, order = by_hand(labels)
    found = number_groups(labels, len(labels))
    assert found.number.tolist() == number
    assert [*map(str, found.keys)] == [*map(str, keys)] or kind == "days"
    assert found.sizes.tolist() == sizes
    if order == [*range(len(labels))]:
        assert found.order is None
    else:
        assert found.order.tolist() == order


def test_runs_may_go_on_from_one_thread_to_the_next(rng, monkeypatch):
    labels = np.repeat(rng.integers(0, 9, 40), rng.integers(1, 12, 40))
    whole = number_groups(labels, labels.size)
    for part in (1, 7, labels.size - 1, labels.size):
        monkeypatch.setattr(groups, "PART", part)
        found = number_groups(labels, labels.size)
        for a, b in zip(found, whole, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", [np.asarray, torch.tensor], ids=["array", "tensor"])
def test_labels_in_order_are_not_sorted(make, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr(groups.np, "unique", never)
    monkeypatch.setattr(groups.np, "argsort", never)
    found = number_groups(make([3, 3, 5, 8, 8, 8]), 6)
    assert found.keys == (3, 5, 8)
    assert found.number.tolist() == [0, 0, 1, 2, 2, 2]


def test_of_labels_that_are_together_one_each_is_sorted(monkeypatch):
    seen, sort = [], np.unique
    monkeypatch.setattr(groups.np, "unique", lambda v, **kw: seen.append(len(v)) or sort(v, **kw))
    found = number_groups(np.repeat(["late", "early", "mid"], 50), 150)
    assert found.keys == ("late", "early", "mid")
    assert found.order is None
    assert seen == [3]


def lines(order=slice(None), gap=None, **options):
    """Fit a line to each of five groups of different sizes, the points in any order."""
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(5), [6, 9, 4, 12, 5])
    x = rng.uniform(0, 10, g.size)
    y = 2 * x + g + rng.normal(0, 0.2, g.size)
    if gap is not None:
        y[gap] = np.nan
    x, y, g = x[order], y[order], g[order]
    options = {"start": {"a": 0, "b": 1}, "sx": 0.1, "sy": 0.2, "backend": "eager", **options}
    return x, gf.fit("a + b*x", x, y, groups=g, **options)


POINTS = ("delta", "eps", "x_hat", "y_hat")


def test_points_in_any_order_get_back_what_is_theirs():
    _, whole = lines()
    order = np.random.default_rng(4).permutation(36)
    _, mixed = lines(order)
    for name in POINTS:
        np.testing.assert_allclose(
            getattr(mixed, name), getattr(whole, name)[order], rtol=0, atol=1e-9, err_msg=name
        )
    assert [mixed.keys[k] for k in mixed.group] == whole.group[order].tolist()
    for key in whole.keys:
        assert mixed[key].params == pytest.approx(whole[key].params, rel=1e-9)
        assert mixed[key].dof == whole[key].dof


def test_a_row_left_out_holds_nan_and_leaves_the_others_in_their_places():
    _, whole = lines()
    _, without = lines(gap=7, nan_policy="omit")
    rest = np.delete(np.arange(36), 7)
    for name in POINTS:
        values = getattr(without, name)
        assert np.isnan(values[7])
        others = rest[whole.group[rest] != whole.group[7]]
        np.testing.assert_array_equal(values[others], getattr(whole, name)[others])
    assert without.group[7] == -1
    assert without.dof.tolist() == (whole.dof - (np.arange(5) == 1)).tolist()


def test_a_table_owns_its_data_and_keeps_their_order():
    x, whole = lines()
    assert not np.shares_memory(whole.observed.x, x)
    assert not np.shares_memory(whole.x_hat, x)
    x, mixed = lines(np.arange(36)[::-1])
    np.testing.assert_array_equal(mixed.observed.x, x)


def test_a_group_of_nan_is_told_and_its_rows_stay():
    _, whole = lines()
    with pytest.warns(gf.errors.ConvergenceWarning, match="1 BAD_DATA"):
        _, one_bad = lines(gap=7)
    assert one_bad.status[1] == gf.Status.BAD_DATA
    assert np.isnan(one_bad.params["a"][1])
    assert np.isnan(one_bad.p_value[1])
    assert one_bad.group[7] == 1
    for key in (0, 2, 3, 4):
        assert one_bad[key].params == pytest.approx(whole[key].params, rel=1e-12)


def test_labels_in_order_are_a_tuple_that_is_made_when_it_is_asked_for():
    labels = np.repeat([3, 5, 8], 2)
    keys = number_groups(labels, 6).keys
    assert keys == (3, 5, 8)
    assert keys == (3, 5, 8)
    assert keys != (3, 5)
    assert keys != [3, 5, 8]
    assert [type(k) for k in (keys[0], keys[-1], *keys[:2], *keys)] == [int] * 7
    assert keys[1:] == (5, 8)
    assert 5 in keys
    assert hash(keys) == hash((3, 5, 8))
    assert repr(keys) == "(3, 5, 8)"
    assert pickle.loads(pickle.dumps(keys)) == keys
