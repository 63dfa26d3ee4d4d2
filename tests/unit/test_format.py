"""Rounding by the rule of the Particle Data Group, and text that lines up."""

import math
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradfit import _format
from gradfit._format import columns, concise, count, duration, measured, number, percent, plural

# Review of Particle Physics, Introduction, section 5.3: the published examples, then its rule at
# its limits: 100..354 keeps two digits, 355..949 one, 950..999 becomes 1000 and keeps two.
PDG = [
    (0.827, 0.119, "0.83 ± 0.12", "0.83(12)"),
    (0.827, 0.367, "0.8 ± 0.4", "0.8(4)"),
    (5.4321, 0.354, "5.43 ± 0.35", "5.43(35)"),
    (5.4321, 0.355, "5.4 ± 0.4", "5.4(4)"),
    (5.4321, 0.949, "5.4 ± 0.9", "5.4(9)"),
    (5.4321, 0.950, "5.4 ± 1.0", "5.4(1.0)"),
    (5.4321, 0.99, "5.4 ± 1.0", "5.4(1.0)"),
    (5.4321, 0.100, "5.43 ± 0.10", "5.43(10)"),
    (12.34, 1.23, "12.3 ± 1.2", "12.3(1.2)"),
    (1234.5, 12.3, "1234 ± 12", "1234(12)"),
    (1234.5, 4.4, "1234 ± 4", "1234(4)"),
    (1234.5, 123.4, "1230 ± 120", "1230(120)"),
    (5.479910224, 0.294970735, "5.48 ± 0.29", "5.48(29)"),
    (-0.480533407, 0.057985009, "-0.48 ± 0.06", "-0.48(6)"),
]


@pytest.mark.parametrize(("value", "error", "long", "short"), PDG)
def test_value_and_error_are_rounded_as_the_particle_data_group_does(value, error, long, short):
    assert measured(value, error) == long
    assert concise(value, error) == short


@pytest.mark.parametrize(
    ("value", "error", "long", "short"),
    [
        (6.62607e-34, 1.2e-37, "(6.6261 ± 0.0012)e-34", "6.6261(12)e-34"),
        (1.5e9, 2.1e7, "(1.500 ± 0.021)e9", "1.500(21)e9"),
        (0.0, 3.3e-9, "(0.0 ± 3.3)e-9", "0.0(3.3)e-9"),
        (1e-12, 2.0e-5, "(0.0 ± 2.0)e-5", "0.0(2.0)e-5"),
        (9.996e6, 1.2e4, "9996000 ± 12000", "9996000(12000)"),
        (9.9996e6, 6.0e3, "(1.0000 ± 0.0006)e7", "1.0000(6)e7"),
    ],
)
def test_huge_and_small_share_one_power_of_ten(value, error, long, short):
    assert measured(value, error) == long
    assert concise(value, error) == short


@pytest.mark.parametrize(
    ("value", "error", "long"),
    [
        (2.5, 0.0, "2.5 ± 0"),
        (2.5, math.inf, "2.5 ± inf"),
        (2.5, math.nan, "2.5 ± nan"),
        (math.nan, math.nan, "nan ± nan"),
        (math.inf, 1.0, "inf ± 1"),
        (-math.inf, math.nan, "-inf ± nan"),
        (1.0, 1e-300, "1 ± 1e-300"),
        (2.5, 4.1e-16, "2.5 ± 4.1e-16"),
        (1e300, 1e-300, "1e300 ± 1e-300"),
        (-0.001, 12.3, "0 ± 12"),
        (0.0, 0.0, "0 ± 0"),
        (5e-324, 5e-324, "(5 ± 5)e-324"),
    ],
)
def test_edges(value, error, long):
    assert measured(value, error) == long


def test_concise_without_a_place_to_round_to():
    assert concise(2.5, math.nan) == "2.5(nan)"
    assert concise(2.5, 0.0) == "2.5(0)"


@given(
    st.floats(-1e12, 1e12, allow_subnormal=False),
    st.floats(1e-6, 1e12, allow_subnormal=False),
)
def test_rounding_keeps_value_and_error_within_half_a_unit_of_the_last_digit(value, error):
    match = re.fullmatch(r"\(?(-?[\d.]+) ± ([\d.]+)\)?(?:e(-?\d+))?", measured(value, error))
    if abs(value) / error > 1e14:
        return
    assert match is not None
    shown, spread = Decimal(match[1]), Decimal(match[2])
    scale = Decimal(10) ** int(match[3] or 0)
    leading = spread.as_tuple().digits
    # One digit from 4 to 9, or two from 10 to 35; trailing zeros of integers carry nothing.
    kept = int("".join(map(str, leading)).rstrip("0") or "0")
    assert kept <= 35
    unit = Decimal(10) ** (Decimal(repr(error)).adjusted() - 1)
    assert abs(spread * scale - Decimal(repr(error))) <= 5 * unit
    assert abs(shown * scale - Decimal(repr(value))) <= 5 * unit
    assert (-shown.as_tuple().exponent) == (-spread.as_tuple().exponent)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_number_with_all_digits_reads_back(value):
    assert float(number(value, 17)) == value


def test_numbers_have_short_exponents():
    assert [number(v) for v in (1e-7, 2.5e10, -3e-300, 0.0)] == ["1e-7", "2.5e10", "-3e-300", "0"]
    assert [number(v) for v in (math.inf, -math.inf, math.nan)] == ["inf", "-inf", "nan"]


def test_probabilities_are_never_rounded_to_certainty_silently():
    assert _format.probability(1.0) == "1.000"
    assert _format.probability(0.00099) == "0.00099"
    assert _format.probability(1e-12) == "1e-12"


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.0, "0.0 %"), (-0.25, "-25 %"), (0.994, "99 %"), (0.996, "100 %"), (2e4, "2.0e6 %")],
)
def test_percent(ratio, text):
    assert percent(ratio) == text


def test_durations_carry_over():
    assert duration(59.99) == "60 s"
    assert duration(119.9) == "2 min 0 s"
    assert duration(0.00099999) == "1 ms"
    assert duration(0.1234) == "123 ms"
    assert duration(0.9999) == "1 s"


def test_counts():
    assert count(10_000_000) == "10,000,000"
    assert plural(0, "group") == "0 groups"


def test_columns_line_up_at_the_sign():
    rows = [["a", "2.50 ± 0.12", "1 %"], ["bb", "0.5", "-"], ["c", "-103 ± 4", "12 %"]]
    assert columns(rows, "lpr") == [
        "a   2.50 ± 0.12   1 %",
        "bb   0.5            -",
        "c   -103 ± 4     12 %",
    ]
