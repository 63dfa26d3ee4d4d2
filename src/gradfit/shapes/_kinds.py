"""What a kind of shape is: its equation, where it begins, and where it becomes another kind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from gradfit._model import Model
from gradfit.shapes._frame import Cloud
from gradfit.shapes._starts import Seed, Seeder
from gradfit.shapes._tell import Told


@dataclass(frozen=True, eq=False)
class Limit:
    """Something that must not vanish in a shape.

    Attributes
    ----------
    of : callable
        Its value (F,) from the parameters inside.
    what : str
        What the shape is where it vanishes.
    positive : bool
        Whether it must be positive, and not merely differ from 0.
    instead : Limit or None
        Beyond the limit: what the best shape of the chart is where this vanishes, too.
    """

    of: Callable[[Sequence[Tensor]], Tensor]
    what: str
    positive: bool = False
    instead: "Limit | None" = None


@dataclass(frozen=True, eq=False)
class Brink:
    """The shapes between two kinds: parabolas, between ellipses and hyperbolas.

    Attributes
    ----------
    chart : Model
        Such shapes, in parameters of their own.
    enter, leave : callable
        From the parameters (F, p) of the shape to those of the nearest shape here, and back.
    """

    chart: Model
    enter: Callable[[Tensor], Tensor]
    leave: Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Vague:
    """A parameter that has no meaning where two others are the same.

    Attributes
    ----------
    index : int
        Its place among the parameters that are told.
    larger, smaller : int
        Those of the others.
    """

    index: int
    larger: int
    smaller: int


@dataclass(frozen=True, eq=False)
class Shape:
    """One kind of shape.

    Attributes
    ----------
    model : Model
        Zero on the shape, in practitioners' parameters.
    chart : Model
        The same in the parameters in which it is fitted.
    seed : callable
        Candidates to begin with.
    tell : callable
        Practitioners' parameters from those of the chart.
    limits : tuple of Limit
        Where it degenerates.
    equations : int
        Equations per point.
    wide : bool
        Whether points on one straight line leave it open.
    brink : Brink or None
        Where it is about to become another shape.
    reseat : callable or None
        The same shapes seen from where they pass nearest to the points.
    vague : Vague or None
        A parameter that may have no meaning.
    """

    model: Model
    chart: Model
    seed: Seeder
    tell: Told
    limits: tuple[Limit, ...] = ()
    equations: int = 1
    wide: bool = False
    brink: "Brink | None" = None
    reseat: Callable[[Cloud, Tensor, Tensor], Seed] | None = None
    vague: Vague | None = None

    @property
    def redundant(self) -> int:
        """Parameters of the model that follow from the others."""
        return len(self.model.names) - len(self.chart.names)
