"""Start values where the user gives none: a search over a sample of the points."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gradfit._anatomy import Anatomy, Call, examine
from gradfit._data import Data
from gradfit._model import Model, wrong_shape
from gradfit._search import Limits, Trial, draw, search, seen

POINTS = 256
"""Points of a group that the search looks at."""
PEAKS = 64
"""Frequencies taken from a spectrum."""
LONGEST = 1 << 20
"""Points and bins of a spectrum."""
BUDGET = 1 << 24
"""Values of the model that many groups may cost together."""
CHUNK = 1 << 18
"""Values of the model at once: few enough to stay in cache."""
PILOTS = 16
"""Groups that are searched thoroughly; the others profit from what they find."""


def propose_starts(
    model: Model,
    data: Data,
    n: int = 1,
    seed: int = 0,
    *,
    known: Mapping[str, float] | None = None,
    bounds: Mapping[str, Limits] | None = None,
) -> Tensor:
    """Return up to ``n`` different start vectors for each group, the most promising first.

    Parameters
    ----------
    model : Model
        Any model, explicit or implicit.
    data : Data
        The points.
    n : int
        Starts wanted; fewer come back where fewer differ.
    seed : int
        The same seed gives the same starts.
    known : mapping of str to float, optional
        Parameters whose value is given: fixed, or with a start. Those with a default in the
        signature are known by it.
    bounds : mapping of str to (lower, upper), optional
        Where the others may lie; None leaves a side open.

    Returns
    -------
    Tensor (G, n, p)
        In the order of ``model.names``; G = 1 without groups.

    Raises
    ------
    ModelError
        The model fails or does not return a tensor.
    """
    values = {**model.defaults, **(known or {})}
    ranges = {**dict.fromkeys(model.positive, (0.0, None)), **(bounds or {})}
    held = {model.names.index(k): float(v) for k, v in values.items()}
    limits = {
        model.names.index(k): v for k, v in ranges.items() if k not in values and v != (None, None)
    }
    with torch.no_grad():
        q = 0 if data.y is None else data.y.shape[0]
        call = _callable(model, data.vector_x, data.y_names)
        anatomy = examine(call, data.x.shape[0], len(model.names), tuple(held), q)
        trial = _sample(data, call, spectrum=any(anatomy.turn))
        found = _search_groups(trial, anatomy, held, limits, n, seed)
    return found.permute(1, 2, 0)


def _search_groups(
    trial: Trial,
    anatomy: Anatomy,
    held: Mapping[int, float],
    limits: Mapping[int, Limits],
    n: int,
    seed: int,
) -> Tensor:
    """Return starts (p, G, n): some groups are searched first, all with what was found there."""
    G, points = trial.w.shape
    free = len(anatomy.place) - len(held.keys() | set(anatomy.linear))
    wanted = (1, 512, 2048)[free] if free < 3 else 4096
    device = trial.w.device

    def run(rows: Tensor, n: int, draws: int, more: Tensor | None) -> Tensor:
        part = trial.take(rows)
        theta = draw(part, anatomy, draws, seed)
        if more is not None:
            theta = torch.cat([theta, more[:, None].expand(-1, len(rows), -1)], 2)
        return search(part, anatomy, held, limits, theta, n)

    affordable = max(64, BUDGET // (G * points))
    shared = None
    if affordable < wanted:
        pilots = torch.linspace(0, G - 1, PILOTS).round().long().unique().to(device)
        shared = torch.cat([run(g[None], max(n, 4), wanted, None).flatten(1) for g in pilots], 1)
        wanted = affordable
    step = max(1, CHUNK // (wanted * points))
    rows = torch.arange(G, device=device)
    parts = [run(rows[i : i + step], n, wanted, shared) for i in range(0, G, step)]
    most = max(part.shape[2] for part in parts)
    # Where fewer starts differ, the last is repeated.
    return torch.cat([p[..., torch.arange(most).clamp(max=p.shape[2] - 1)] for p in parts], 1)


def _callable(model: Model, vector: bool, y_names: Sequence[str]) -> Call:
    """Return the model as ``call(x (m, N), params) -> (q, N)``; an implicit one has any q."""
    q = len(y_names)

    def call(x: Tensor, params: Sequence[Tensor]) -> Tensor:
        given = model.call(x[0] if vector else x, params)
        value = given if given.ndim == 2 else given[None]
        if value.shape[-1] not in (1, x.shape[1]) or (q > 0 and value.shape[0] != q):
            raise wrong_shape(model, y_names, tuple(given.shape), x.shape[1])
        return value.expand(-1, x.shape[1])

    return call


def _sample(data: Data, call: Call, *, spectrum: bool) -> Trial:
    """Return at most POINTS points of every group, side by side; what is missing weighs nothing."""
    index, there = _pick(data)
    w = torch.where(there, _weights(data)[index], 0.0)

    def take(t: Tensor) -> Tensor:
        # Where nothing is to be weighed there may be anything finite.
        return torch.where(w > 0, t[:, index], 0.0)

    x = take(data.x)
    y = None if data.y is None else take(data.y)
    rates, fastest = w.new_zeros(len(w), 0), w.new_zeros(len(w))
    if spectrum:
        rates, fastest = w.new_zeros(len(w), 1), _fastest(x[0], w)
    if spectrum and y is not None and len(x) == 1:
        rates, fastest = (
            _spectrum(x[0], y[0].nan_to_num(0.0), seen(y[0], w))
            if data.group is not None
            else _spectrum(*_whole(data))
        )
    return Trial(call, x, y, w, rates, fastest)


def _pick(data: Data) -> tuple[Tensor, Tensor]:
    """Return indices (G, n) of points, and which of them are meant.

    Of many points one is taken at random from each of POINTS equal stretches: steps of one length
    would turn fast oscillations into slow ones.
    """
    N, device = data.x.shape[1], data.x.device
    if data.group is None:
        count = torch.tensor([N], device=device)
    else:
        count = torch.bincount(data.group, minlength=len(data.keys))
    n = int(count.max().clamp(max=POINTS))
    generator = torch.Generator().manual_seed(0)
    jitter = torch.rand(n, generator=generator, dtype=torch.float64).to(device)
    rank = torch.arange(n, device=device)
    size = count[:, None]
    stretch = ((rank + jitter) * size / n).long()
    chosen = torch.where(size > n, stretch, rank)
    first = (count.cumsum(0) - count)[:, None]
    index, there = (first + chosen).clamp(max=N - 1), chosen < size
    if data.group is None and N > POINTS and data.y is not None:
        # A narrow peak may lie between them all.
        y = data.y[0].nan_to_num(0.0, 0.0, 0.0)
        ends = torch.stack([y.argmax(), y.argmin()])[:, None] + torch.arange(-16, 17, device=device)
        index = torch.cat([index, ends.reshape(1, -1).clamp(0, N - 1)], 1)
        there = torch.ones_like(index, dtype=torch.bool)
    return index, there


def _weights(data: Data) -> Tensor:
    """Return a weight (N,) for each point, 0 where something is not finite.

    The median variance is added to each, so that no point rules; points that are marked as bad by a
    huge sigma lose their say.
    """
    m, n = data.x.shape
    y = data.filled.y
    y = data.x if y is None else y
    fine = torch.isfinite(data.x).all(0) & torch.isfinite(y).all(0)
    variance = None
    if data.sy is not None:
        variance = data.sy.square()
    elif data.cov is not None and data.y is not None:
        variance = data.cov.diagonal(dim1=0, dim2=1)[:, m:].mT
    if variance is not None:
        measured = torch.ones_like(variance) if data.missing is None else (~data.missing).to(y)
        variance = torch.where(measured > 0, variance, 0.0).sum(0) / measured.sum(0)
    if variance is None or variance.shape[0] == 1:
        return fine.to(y)
    middle = variance.nanmedian()
    weight = middle / (middle + variance) if bool(middle > 0) else torch.ones_like(variance)
    return torch.where(fine, weight, 0.0).nan_to_num().expand(n)


def _whole(data: Data) -> tuple[Tensor, Tensor, Tensor]:
    """Return x, y and weights (1, N) of all points, or of as many as a spectrum takes."""
    if data.y is None:
        raise ValueError("a spectrum needs y")
    step = -(-data.x.shape[1] // LONGEST)
    w = seen(data.y[0], _weights(data))[::step]
    x, y = (torch.where(w > 0, t[0, ::step], 0.0) for t in (data.x, data.y))
    return x[None], y[None], w[None]


def _fastest(x: Tensor, w: Tensor) -> Tensor:
    """Return the frequency (G,) where the median spacing of x is half a turn."""
    if x.shape[1] < 2:
        return torch.ones_like(x[:, 0])
    gap = torch.where(w > 0, x, torch.nan).sort(1)[0].diff(dim=1)
    gap = torch.where(gap > 1e-9 * gap.nan_to_num().sum(1, keepdim=True), gap, torch.nan)
    return 0.5 / gap.nanmedian(1)[0].nan_to_num(1.0)


def _spectrum(x: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return the strongest frequencies (G, PEAKS), and where aliases begin (G,).

    The spectrum is that of points moved to the nearest of many bins, so that uneven sampling and
    repeated x are welcome.
    """
    G, n = x.shape
    low = torch.where(w > 0, x, torch.inf).amin(1, keepdim=True)
    size = torch.where(w > 0, x, -torch.inf).amax(1, keepdim=True) - low
    size = torch.where(torch.isfinite(size) & (size > 0), size, 1.0)
    bins = min(1 << (4 * n - 1).bit_length(), LONGEST)
    mean = (w * y).sum(1, keepdim=True) / w.sum(1, keepdim=True).clamp(min=1e-300)
    at = ((x - low) / size * (bins - 1)).nan_to_num(0.0).round().long().clamp(0, bins - 1)
    signal = x.new_zeros(G, 4 * bins).scatter_add_(1, at, w * (y - mean))
    power = torch.fft.rfft(signal).abs()
    rates = torch.arange(power.shape[1], dtype=x.dtype, device=x.device) * (bins - 1) / (4 * bins)
    fastest = _fastest(x, w)
    power = torch.where(rates <= (fastest[:, None] * size), power, -1.0)
    return rates[power.topk(min(PEAKS, power.shape[1]), 1)[1]] / size, fastest
