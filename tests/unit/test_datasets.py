"""The data sets hold what they cite, and a fit of each gives the reference values."""

import numpy as np
import pytest

import gradfit as gf
from gradfit import datasets

SETS = ("pearson_york", "iso28037", "isochron", "sandstone")

PUBLISHED = {
    # York et al., Am. J. Phys. 72 (2004) 367, as the unit tests of the R package bfsl quote it.
    "pearson_york": ((-0.480533407, 5.479910224), (0.0579850090, 0.294970735), 11.866353),
    # ISO/TS 28037:2010, 7.4 (the slope, 2.15966, is cut there to 2.159).
    "iso28037": ((2.1597, 0.5788), (0.1355, 0.4764), 2.743),
    # The report of example 1 with ODRPACK: a sum of squares to 9 digits, parameters to 6.
    "sandstone": ((1264.65, -54.0184, -0.0878497), None, 21.4455017),
}


@pytest.mark.parametrize("name", SETS)
def test_a_fit_gives_the_reference_values(name):
    data = getattr(datasets, name)
    fit = gf.fit(data.model, **data.points, start=data.start)
    for key, value in data.reference.params.items():
        assert fit.params[key] == pytest.approx(value, rel=1e-12)
    for key, value in data.reference.stderr.items():
        assert fit.stderr[key] == pytest.approx(value, rel=1e-11)
    assert fit.chi2 == pytest.approx(data.reference.chi2, rel=1e-12)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_reference_is_what_was_published(name):
    reference = getattr(datasets, name).reference
    params, stderr, chi2 = PUBLISHED[name]

    def close(values, printed):
        for value, figure in zip(values.values(), printed, strict=True):
            digits = len(f"{abs(figure)}".replace(".", "").lstrip("0"))
            assert value == pytest.approx(figure, rel=0.7 * 10.0 ** (1 - digits))

    close(reference.params, params)
    if stderr is not None:
        close(reference.stderr, stderr)
    close({"chi2": reference.chi2}, (chi2,))


def test_yorks_standard_deviations_are_those_of_his_weights():
    data = datasets.pearson_york
    np.testing.assert_allclose(data.sx**-2, [1000, 1000, 500, 800, 200, 80, 60, 20, 1.8, 1])
    np.testing.assert_allclose(data.sy**-2, [1, 1.8, 4, 8, 20, 20, 70, 70, 100, 500])


@pytest.mark.parametrize("name", SETS)
def test_data_cannot_be_changed_by_accident(name):
    data = getattr(datasets, name)
    for array in data.points.values():
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0
    with pytest.raises(TypeError, match="does not support item assignment"):
        data.reference.params["slope"] = 1.0
