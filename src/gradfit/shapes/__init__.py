"""Geometric shapes through points: lines, planes, circles, ellipses, spheres and more.

Every shape needs no start values: algebraic fits give candidates, which are followed side by side,
and the best is fitted by the true distance of the points from the shape, in units of sigma. Results
are told in the parameters that practitioners use, with uncertainties.
"""

from gradfit.shapes._planar import circle, conic, ellipse, line2d
from gradfit.shapes._spatial import cone, cylinder, line3d, plane, sphere

__all__ = [
    "circle",
    "cone",
    "conic",
    "cylinder",
    "ellipse",
    "line2d",
    "line3d",
    "plane",
    "sphere",
]
