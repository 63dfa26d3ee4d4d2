"""Published data with published answers, to try a fit on and to check it.

The reference values were computed in 90-digit arithmetic from the conditions of stationarity and
agree with what the sources print, as far as these print it. Standard errors are those of the
expected information, with the sigmas taken as they are (``absolute_sigma=True``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from gradfit._types import FloatArray


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a fit should give."""

    params: Mapping[str, float]
    stderr: Mapping[str, float]
    chi2: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Points, where they come from, and what a fit of them should give.

    Attributes
    ----------
    model : str
        Name or formula of the model.
    x, y, sx, sy : array (N,)
        Observations and their standard deviations.
    rho : array (N,) or None
        Correlation of the errors.
    source : str
        Citation.
    reference : Reference
        Parameters, their standard errors and chi-square.
    start : mapping or None
        Start values of the source, where the model needs any.
    """

    model: str
    x: FloatArray
    y: FloatArray
    sx: FloatArray
    sy: FloatArray
    rho: FloatArray | None = None
    source: str
    reference: Reference
    start: Mapping[str, float] | None = None

    @property
    def points(self) -> dict[str, Any]:
        """Arguments of :func:`gradfit.fit`.

        Examples
        --------
        >>> sorted(pearson_york.points)
        ['sx', 'sy', 'x', 'y']
        """
        found = {"x": self.x, "y": self.y, "sx": self.sx, "sy": self.sy, "rho": self.rho}
        return {k: v for k, v in found.items() if v is not None}


def _fixed(*values: float) -> FloatArray:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


def _weights(*values: float) -> FloatArray:
    """Return the standard deviations that belong to weights."""
    return _fixed(*(1 / np.sqrt(values)))


def _line(slope: tuple[float, float], intercept: tuple[float, float], chi2: float) -> Reference:
    return Reference(
        params=MappingProxyType({"slope": slope[0], "intercept": intercept[0]}),
        stderr=MappingProxyType({"slope": slope[1], "intercept": intercept[1]}),
        chi2=chi2,
    )


pearson_york = Dataset(
    model="line",
    x=_fixed(0.0, 0.9, 1.8, 2.6, 3.3, 4.4, 5.2, 6.1, 6.5, 7.4),
    y=_fixed(5.9, 5.4, 4.4, 4.6, 3.5, 3.7, 2.8, 2.8, 2.4, 1.5),
    sx=_weights(1000, 1000, 500, 800, 200, 80, 60, 20, 1.8, 1),
    sy=_weights(1, 1.8, 4, 8, 20, 20, 70, 70, 100, 500),
    source="K. Pearson, Phil. Mag. 2 (1901) 559; weights of D. York, Can. J. Phys. 44 (1966) 1079",
    reference=_line(
        (-0.480533407446201987, 0.0579850090007744364),
        (5.47991022403286537, 0.294970735493108564),
        11.8663531940614453,
    ),
)

iso28037 = Dataset(
    model="line",
    x=_fixed(1.2, 1.9, 2.9, 4.0, 4.7, 5.9),
    y=_fixed(3.4, 4.4, 7.2, 8.5, 10.8, 13.5),
    sx=_fixed(0.2, 0.2, 0.2, 0.2, 0.2, 0.2),
    sy=_fixed(0.2, 0.2, 0.2, 0.4, 0.4, 0.4),
    source="ISO/TS 28037:2010, Determination and use of straight-line calibration functions, 7.4",
    reference=_line(
        (2.15965656739929317, 0.135547927467508791),
        (0.578822122149498396, 0.476420629621775543),
        2.74267678973096725,
    ),
)

isochron = Dataset(
    model="line",
    x=_fixed(194.29, 203.31, 250.15, 219.3, 219.41, 183.26),
    y=_fixed(1189.6, 1222.0, 1442.4, 1299.0, 1305.2, 1137.4),
    sx=_fixed(0.76, 0.89, 0.89, 1.5, 1.5, 0.56),
    sy=_fixed(4.6, 5.3, 5.1, 9.0, 8.7, 3.4),
    rho=_fixed(0.976, 0.992, 0.992, 0.996, 0.997, 0.956),
    source="P. Vermeesch, Geoscience Frontiers 9 (2018) 1479, data set `regression` of IsoplotR",
    reference=_line(
        (4.55922608470643656, 0.0237831175377753917),
        (301.035100870811376, 5.05910303073804395),
        28.1095076832663954,
    ),
)

sandstone = Dataset(
    model="b1 + b2*(exp(b3*x) - 1)**2",
    x=_fixed(0, 0, 5, 7, 7.5, 10, 16, 26, 30, 34, 34.5, 100),
    y=_fixed(
        1265.0,
        1263.6,
        1258.0,
        1254.0,
        1253.0,
        1249.8,
        1237.0,
        1218.0,
        1220.6,
        1213.8,
        1215.5,
        1212.0,
    ),
    sx=_fixed(0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0),
    sy=_fixed(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    source="W. A. Fuller, Measurement Error Models (1987), 3.2.2, velocity of sound against "
    "nitrogen saturation; weights of the ODRPACK guide (NISTIR 92-4834, 1992), 2.B.i",
    reference=Reference(
        params=MappingProxyType(
            {"b1": 1264.65481050061939, "b2": -54.0183868226886838, "b3": -0.0878498517620776780}
        ),
        stderr=MappingProxyType(
            {"b1": 0.670444705743795351, "b2": 1.02614191026959622, "b3": 0.00410212678336917495}
        ),
        chi2=21.4455016594015455,
    ),
    start=MappingProxyType({"b1": 1500.0, "b2": -50.0, "b3": -0.1}),
)
