"""Start values where the user gives none: a search over a sample of the points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from gradfit._anatomy import POINTS as TRIED
from gradfit._anatomy import PROBES, Anatomy, Call, examine, linear_of, of_linear
from gradfit._data import Data
from gradfit._model import Model, wrong_shape
from gradfit._native.program import Record
from gradfit._search import Limits, Trial, draw, fastest_along, search, seen
from gradfit._sizes import Sizes, read_sizes, write_down
from gradfit._spectrum import LONGEST, fastest_of, spectrum_of

POINTS = 256
"""Points of a group that the search looks at."""
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
    """Return starts (G, n, p) as :func:`propose` does, without what is known of frequencies."""
    return propose(model, data, n, seed, known=known, bounds=bounds)[0]


class Rate(NamedTuple):
    """What points can show of an oscillation: a parameter to ``power`` up to ``fastest`` (G,)."""

    power: float
    fastest: Tensor


def propose(
    model: Model,
    data: Data,
    n: int = 1,
    seed: int = 0,
    *,
    known: Mapping[str, float] | None = None,
    bounds: Mapping[str, Limits] | None = None,
) -> tuple[Tensor, dict[str, Rate]]:
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
    starts : Tensor (G, n, p)
        In the order of ``model.names``; G = 1 without groups.
    rates : dict of str to Rate
        The fastest oscillation that the points of each group can show, by parameter.

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
        trial = _sample(data, call)
        written = write_down(call, trial.x[:, 0], len(model.names))
        view = _View(written, held, limits, seed, q, len(model.names))
        anatomy = view.examine(trial)
        rates: dict[int, Rate] = {}
        if view.turns(trial, anatomy):
            trial = _with_spectrum(trial, data)
            rates = view.rates(trial, anatomy)
        found = _search_groups(trial, anatomy, view, n)
    return found.permute(1, 2, 0), {model.names[j]: rate for j, rate in rates.items()}


@dataclass(frozen=True)
class _View:
    """What is known of a model's parameters, however it came to be known.

    Attributes
    ----------
    written : Record or None
        What the model computes, where that can be seen.
    held : mapping of int to float
        Parameters whose value is given.
    limits : mapping of int to (lower, upper)
        Where others may lie.
    seed : int
        Of the draws.
    q : int
        Number of responses, 0 for an implicit model.
    p : int
        Number of parameters.
    """

    written: Record | None
    held: Mapping[int, float]
    limits: Mapping[int, Limits]
    seed: int
    q: int
    p: int

    def sizes(self, trial: Trial) -> Sizes | None:
        """Return the sizes of parameters, where the model tells them."""
        if self.written is None:
            return None
        return read_sizes(self.written, trial.x, trial.y, trial.w, self.held)

    def examine(self, trial: Trial) -> Anatomy:
        """Find out what is linear, at parameters of sensible size, or by trial at random places."""
        m, p = len(trial.x), self.p
        one = trial.take(trial.w.count_nonzero(1).argmax()[None])
        sizes = self.sizes(one)
        if sizes is None:
            return examine(trial.call, m, p, tuple(self.held), self.q)
        theta = draw(one, None, sizes, p, PROBES, self.seed)[:, 0, :, None]
        for j, value in self.held.items():
            theta[j] = value
        fine = one.w[0].nonzero()[:, 0]
        fine = fine if len(fine) else torch.zeros_like(fine.new_empty(1))
        generator = torch.Generator().manual_seed(self.seed)
        at = torch.randint(0, len(fine), (PROBES, TRIED), generator=generator, device="cpu").to(
            fine.device
        )
        x = one.x[:, 0, fine[at]]
        linear = linear_of(trial.call, x, theta.expand(-1, -1, TRIED), tuple(self.held), self.q)
        return of_linear(linear, x, p, m)

    def turns(self, trial: Trial, anatomy: Anatomy) -> bool:
        """Return whether something oscillates."""
        sizes = self.sizes(trial.take(torch.zeros(1, dtype=torch.int64, device=trial.w.device)))
        return any(anatomy.turn) or (sizes is not None and bool(sizes.cycles))

    def rates(self, trial: Trial, anatomy: Anatomy) -> dict[int, Rate]:
        """Return how fast each parameter that is a frequency or a period may make it turn."""
        found: dict[int, list[Rate]] = {}
        rows = torch.arange(len(trial.w), device=trial.w.device, dtype=torch.int64)
        for some in rows.split(max(1, CHUNK // (8 * trial.w.shape[1]))):
            part = trial.take(some)
            sizes = self.sizes(part)
            if sizes is None:
                own = {
                    j: Rate(1.0, turn * part.fastest)
                    for j, turn in enumerate(anatomy.turn)
                    if turn and bool(anatomy.of_x[j].any())
                }
            else:
                own = {
                    j: Rate(cycles.power, fastest_along(part, cycles.turns))
                    for j, cycles in sizes.cycles.items()
                }
            for j, rate in own.items():
                found.setdefault(j, []).append(rate)
        return {
            j: Rate(parts[0].power, torch.cat([rate.fastest for rate in parts]))
            for j, parts in found.items()
            if j not in self.held
        }


def _search_groups(trial: Trial, anatomy: Anatomy, view: _View, n: int) -> Tensor:
    """Return starts (p, G, n): some groups are searched first, all with what was found there."""
    G, points = trial.w.shape
    free = view.p - len(view.held.keys() | set(anatomy.linear))
    wanted = (1, 512, 2048)[free] if free < 3 else 4096
    device = trial.w.device

    def run(rows: Tensor, n: int, draws: int, more: Tensor | None) -> Tensor:
        part = trial.take(rows)
        theta = draw(part, anatomy, view.sizes(part), view.p, draws, view.seed)
        if more is not None:
            theta = torch.cat([theta, more[:, None].expand(-1, len(rows), -1)], 2)
        return search(part, anatomy, view.held, view.limits, theta, n)

    affordable = max(64, BUDGET // (G * points))
    shared = None
    if affordable < wanted:
        pilots = (
            torch.linspace(0, G - 1, PILOTS, dtype=torch.float64, device="cpu")
            .round()
            .long()
            .unique()
            .to(device)
        )
        shared = torch.cat([run(g[None], max(n, 4), wanted, None).flatten(1) for g in pilots], 1)
        wanted = affordable
    step = max(1, CHUNK // (wanted * points))
    rows = torch.arange(G, device=device, dtype=torch.int64)
    parts = [run(rows[i : i + step], n, wanted, shared) for i in range(0, G, step)]
    most = max(part.shape[2] for part in parts)
    # Where fewer starts differ, the last is repeated.
    return torch.cat(
        [
            p[..., torch.arange(most, dtype=torch.int64, device="cpu").clamp(max=p.shape[2] - 1)]
            for p in parts
        ],
        1,
    )


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


def _sample(data: Data, call: Call) -> Trial:
    """Return at most POINTS points of every group, side by side; what is missing weighs nothing."""
    index, there = _pick(data)
    w = torch.where(there, _weights(data)[index], 0.0)

    def take(t: Tensor) -> Tensor:
        # Where nothing is to be weighed there may be anything finite.
        return torch.where(w > 0, t[:, index], 0.0)

    x = take(data.x)
    y = None if data.y is None else take(data.y)
    return Trial(call, x, y, w, w.new_zeros(len(w), 0), w.new_zeros(len(w)))


def _with_spectrum(trial: Trial, data: Data) -> Trial:
    """Add the strongest frequencies along the first variable."""
    x, y, w = trial.x, trial.y, trial.w
    rates, fastest = w.new_zeros(len(w), 1), fastest_of(x[0], w)
    if y is not None and len(x) == 1:
        if data.group is None:
            x, y, w = _whole(data)
        else:
            x, y, w = x[0], y[0].nan_to_num(0.0), seen(y[0], w)
        rates, fastest = spectrum_of(x, y, w)
    return replace(trial, rates=rates, fastest=fastest)


def _pick(data: Data) -> tuple[Tensor, Tensor]:
    """Return indices (G, n) of points, and which of them are meant.

    Of many points one is taken at random from each of POINTS equal stretches: steps of one length
    would turn fast oscillations into slow ones.
    """
    N, device = data.x.shape[1], data.x.device
    if data.group is None:
        count = torch.tensor([N], device=device, dtype=torch.int64)
    else:
        count = torch.bincount(data.group, minlength=len(data.keys))
    n = int(count.max().clamp(max=POINTS))
    generator = torch.Generator().manual_seed(0)
    jitter = torch.rand(n, generator=generator, dtype=torch.float64, device="cpu").to(device)
    rank = torch.arange(n, device=device, dtype=torch.int64)
    size = count[:, None]
    stretch = ((rank + jitter) * size / n).long()
    chosen = torch.where(size > n, stretch, rank)
    first = (count.cumsum(0) - count)[:, None]
    index, there = (first + chosen).clamp(max=N - 1), chosen < size
    if data.group is None and N > POINTS and data.y is not None:
        # A narrow peak may lie between them all.
        y = data.y[0].nan_to_num(0.0, 0.0, 0.0)
        ends = torch.stack([y.argmax(), y.argmin()])[:, None] + torch.arange(
            -16, 17, device=device, dtype=torch.int64
        )
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
