"""Where lines are seen from: the centre of their points, along the direction in which they lie."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._conclude import End
from gradfit._data import Data
from gradfit._engine.covariance import Spread
from gradfit._engine.points import Grouping
from gradfit._types import Status

ROUNDING = 8 * 2.0**-52
"""Share of a coordinate that rounding errors of centred points may make up."""


class View(NamedTuple):
    """From where each line is seen.

    Attributes
    ----------
    steep : Tensor (G,) bool
        Where x and y are exchanged.
    x0, y0 : Tensor (G,)
        Mean of x and of y.
    floor : Tensor (G,)
        Slope in the frame that rounding errors of the points alone can make.
    """

    steep: Tensor
    x0: Tensor
    y0: Tensor
    floor: Tensor


@dataclass(frozen=True, eq=False)
class Frame:
    """The points as they are seen.

    Attributes
    ----------
    data : Data
        Centred points; x and y exchanged where the line is steep.
    view : View
    start : Tensor (G, 2)
        Slope and intercept in this frame, to begin with.
    """

    data: Data
    view: View
    start: Tensor

    def exchange(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Exchange two (1, N) tensors where the points are turned."""
        return _exchange(_grouping(self.data, len(self.start)), self.view.steep, a, b)


def frame_of(data: Data, n_groups: int) -> Frame:
    """Centre each group, turn steep ones on their side, and guess the slope from moments."""
    grouping = _grouping(data, n_groups)
    y = data.x if data.y is None else data.y
    count = _count(data)
    x0, y0 = (grouping.sum(v[0]) / count for v in (data.x, y))
    dx, dy = data.x - grouping.spread(x0), y - grouping.spread(y0)
    sxx, syy, sxy = (grouping.sum((a * b)[0]) / count for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    vx, vy = _mean_variances(data, grouping, count)
    # One unit of each coordinate is one typical error; a coordinate without errors has no scale,
    # and the points then lie along it.
    both = (vx > 0) & (vy > 0)
    scale = torch.where(both, (vx / vy).sqrt(), 1.0)
    along, across = 2 * sxy * scale, sxx - syy * scale * scale
    steep = torch.where(both, across < 0, (vy == 0) & (vx > 0))
    # The tangent of half the angle, from the axis that is nearer.
    half = along / (across.abs() + torch.hypot(along, across))
    orthogonal = torch.where(steep, half * scale, half / scale)
    regression = sxy / torch.where(steep, syy, sxx)
    slope = torch.where(both, orthogonal, regression).nan_to_num(0.0, 0.0, 0.0)
    start = torch.stack([slope, torch.zeros_like(slope)], 1)
    across = torch.where(steep, x0.abs() + sxx.sqrt(), y0.abs() + syy.sqrt())
    floor = ROUNDING * across / torch.where(steep, syy, sxx).sqrt()
    return Frame(_turn(data, grouping, steep, dx, dy), View(steep, x0, y0, floor), start)


def _grouping(data: Data, n_groups: int) -> Grouping:
    sizes = data.sizes
    even = sizes is not None and bool((sizes == sizes[0]).all())
    return Grouping(data.group, n_groups, int(sizes[0]) if even and sizes is not None else 0)


def _count(data: Data) -> Tensor:
    """Return the number of points of each line (G,), as one divides by it."""
    if data.sizes is None:
        return data.x.new_full((1,), data.x.shape[1])
    return data.sizes.to(data.x)


def _mean_variances(data: Data, grouping: Grouping, count: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared sigma (G,) of x and of y; 1 and 1 where nothing is given."""
    if data.sx is None and data.sy is None:
        return torch.ones_like(count), torch.ones_like(count)

    def mean(sigma: Tensor | None) -> Tensor:
        if sigma is None:
            return torch.zeros_like(count)
        if sigma.numel() == 1:
            return sigma[0].square().expand(len(count))
        return grouping.sum(sigma[0].square()) / count

    return mean(data.sx), mean(data.sy)


def _turn(data: Data, grouping: Grouping, steep: Tensor, dx: Tensor, dy: Tensor) -> Data:
    """Return centred data, x and y exchanged where they are ``steep`` (G,)."""
    x, y = _exchange(grouping, steep, dx, dy)
    sx, sy = data.sx, data.sy
    if sx is None and sy is None:
        return replace(data, x=x, y=y)
    definite = data.definite and sx is not None and sy is not None
    zero = dx.new_zeros(1, 1)
    a, b = zero if sx is None else sx, zero if sy is None else sy
    sx, sy = _exchange(grouping, steep, a, b)
    return replace(data, x=x, y=y, sx=sx, sy=sy, definite=definite)


def _exchange(grouping: Grouping, steep: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Exchange two (1, N|1) tensors where they are steep; nothing is copied if it can be helped."""
    if not bool(steep.any()):
        return a, b
    if bool(steep.all()):
        return b, a
    flip = grouping.spread(steep)
    return torch.where(flip, b, a), torch.where(flip, a, b)


def tell(view: View, end: End, found: Spread) -> tuple[End, Spread]:
    r"""Say lines in the user's coordinates, and carry their covariance there.

    With centre :math:`(x_0, y_0)`: flat, :math:`b = t,\ a = y_0 + c - t x_0`; steep,
    :math:`b = 1/t,\ a = y_0 - (x_0 + c)/t`.
    """
    (t, c), (steep, x0, y0, floor) = end.beta.mT, view
    one, inverse, at = torch.ones_like(t), 1 / t, x0 + c
    slope = torch.where(steep, inverse, t)
    intercept = y0 + torch.where(steep, -at * inverse, c - t * x0)
    square = inverse * inverse
    by_t = torch.where(steep, -square, one), torch.where(steep, at * square, -x0)
    by_c = torch.where(steep, -inverse, one)
    vertical = steep & (t.abs() <= floor)
    cov = _propagate(by_t, by_c, found.cov)
    if bool(vertical.any()):
        slope = torch.where(vertical, torch.inf, slope)
        intercept = torch.where(vertical, torch.nan, intercept)
        lost = t.new_tensor([[torch.inf, torch.nan], [torch.nan, torch.inf]])
        cov = torch.where(vertical[:, None, None], lost, cov)
        status = torch.where(vertical & (end.status < 10), int(Status.DEGENERATE), end.status)
        end = end._replace(status=status)
    return end._replace(beta=torch.stack([slope, intercept], 1)), found._replace(cov=cov)


def _propagate(by_t: tuple[Tensor, Tensor], by_c: Tensor, cov: Tensor) -> Tensor:
    """Return ``J cov J^T`` (G, 2, 2), by the derivatives of slope and intercept.

    The slope does not depend on ``c``, of which nothing may be known.
    """
    (a, d), e = by_t, by_c
    tt, tc, cc = cov[:, 0, 0], cov[:, 0, 1], cov[:, 1, 1]
    both = a * (d * tt + e * tc)
    last = d * (d * tt + e * tc) + e * (d * tc + e * cc)
    return torch.stack([a * a * tt, both, both, last], 1).reshape(-1, 2, 2)


def upright(view: View, end: End, found: Spread, scale: float) -> str:
    """Say so where a single line cannot be told from a vertical one, and where it stands.

    ``scale`` is the factor by which the scatter of the points multiplies variances, 1 where the
    sigmas are known, NaN where nothing tells it.
    """
    t, c = end.beta[0]
    if len(view.steep) > 1 or not bool(view.steep[0]) or not 0 < end.status[0] < 10:
        return ""
    at = f"at x = {float(view.x0[0] + c):.6g}"
    if bool(t.abs() <= view.floor[0]):
        return (
            f"the points stand on a vertical line, {at}, which has no slope and no intercept; "
            "exchange x and y, or use gf.shapes.line2d"
        )
    if bool(t.abs() <= 2 * (scale * found.cov[0, 0, 0]).sqrt()):
        return f"vertical within its uncertainty, {at}"
    return ""
