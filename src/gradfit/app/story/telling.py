"""The chapters in their order."""

from collections.abc import Iterator

from gradfit.app.story import answers, beginning, descents
from gradfit.app.story.blocks import Chapter
from gradfit.app.story.scene import Scene

CHAPTERS = (
    beginning.points,
    beginning.distance,
    beginning.graph,
    descents.printed,
    descents.cleared,
    descents.rates,
    descents.automatic,
    answers.solutions,
    answers.missed,
    answers.speed,
)


def tell(scene: Scene) -> Iterator[Chapter]:
    """Tell one chapter after the other; each computes what it needs when it is asked for."""
    return (chapter(scene) for chapter in CHAPTERS)
