"""What is said about uncertainty, as a reader sees it: whole texts in tests/golden."""

import made
import numpy as np
import pytest

import gradfit as gf

TRUTH = {"a": 1.0, "b": 0.5, "c": 1.0}


def bent(sigma, n, **options):
    """A parabola measured with large errors in both coordinates."""
    x = np.linspace(-2, 2, n)
    x, y = gf.simulate("a + b*x + c*x**2", TRUTH, x, sx=sigma, sy=sigma, seed=1)
    fit = gf.fit("a + b*x + c*x**2", x, y, sx=sigma, sy=sigma, start=TRUTH, **options)
    return made.settled(fit)


def trend():
    x = np.linspace(100, 104, 25)
    y = np.exp(x - 100) + 0.1 * np.cos(40 * x)
    return gf.fit("a + b*x", x, y, sx=0.01, sy=2.0, start={"a": -1000, "b": 10})


@pytest.mark.parametrize(
    ("name", "say"),
    [
        ("bias_told", lambda: bent(0.2, 30).summary()),
        ("bias_warned", lambda: bent(0.4, 500).summary()),
        ("bias_corrected", lambda: bent(0.2, 30, bias_correction=True).summary()),
        ("sandwich_of_few", lambda: made.settled(made.york(cov_type="sandwich")).summary()),
        ("diagnostics", lambda: made.york().diagnostics().summary()),
        ("diagnostics_trend", lambda: trend().diagnostics().summary()),
        ("jackknife", lambda: made.york().jackknife().summary()),
        ("bootstrap", lambda: made.york().bootstrap(500).summary()),
        ("bootstrap_parametric", lambda: made.decay().bootstrap(500, "parametric").summary()),
    ],
)
def test_text_reads_as_it_did(name, say, golden):
    golden(f"uncertainty_{name}.txt", say())
