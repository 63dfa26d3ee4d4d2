"""The chapters in their order."""

from gradfit.app.story import answers, beginning, descents

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
"""Each computes what it needs when it is called, and the scene keeps it for the next."""
