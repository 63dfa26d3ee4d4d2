"""Values behind options."""

import pytest

from gradfit.app import arguments
from gradfit.errors import InputError


def test_pairs_come_in_one_option_or_in_several():
    expected = {"a": 1.0, "b": -2e-3, "c": 0.5}
    assert arguments.numbers("--start", ["a=1,b=-2e-3,c=.5"]) == expected
    assert arguments.numbers("--start", ["a=1", "b = -2e-3 , c=.5"]) == expected
    assert arguments.numbers("--start", []) == {}


def test_several_numbers_make_a_list():
    assert arguments.vectors("--set", ["x=1,2,3,a=0.5"]) == {"x": [1.0, 2.0, 3.0], "a": 0.5}


def test_bounds_may_be_open():
    assert arguments.bounds("--bounds", ["a=0:,b=:1e3", "c=-1:1"]) == {
        "a": (0.0, None),
        "b": (None, 1e3),
        "c": (-1.0, 1.0),
    }


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (arguments.numbers, "a:1", "--start: expected NAME=VALUE, got 'a:1'"),
        (arguments.numbers, "a=", "--start: expected NAME=VALUE, got 'a='"),
        (arguments.numbers, "", "--start: expected NAME=VALUE, got ''"),
        (arguments.numbers, "2a=1", "--start: expected NAME=VALUE, got '2a=1'"),
        (arguments.numbers, "a=one", "--start: a must be a number, got 'one'"),
        (arguments.numbers, "a=1,2", "--start: expected NAME=VALUE, got '2'"),
        (arguments.numbers, "a=nan", "--start: a must be finite, got 'nan'"),
        (arguments.numbers, "a=1,a=2", "--start: 'a' is given twice"),
        (arguments.vectors, "x=1,two", "--start: x must be a number, got 'two'"),
        (arguments.bounds, "a=1", "--start: expected a=LOW:HIGH, got '1'"),
        (arguments.bounds, "a=1:b", "--start: a must be a number, got 'b'"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_text(read, text, message):
    with pytest.raises(InputError, match=message):
        read("--start", [text])
