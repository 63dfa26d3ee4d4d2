"""The model as machine code: captured once, differentiated, lowered and compiled.

``capture`` runs a model on two points and writes every torch operation down as scalar expressions;
``differentiate`` takes their derivatives; ``lower`` writes them as straight-line Python over a
block of points, which ``kernel`` compiles. What cannot be captured is refused with a reason, and
the caller falls back to the eager engine.
"""
