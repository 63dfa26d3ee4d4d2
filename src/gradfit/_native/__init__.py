"""The model, and the whole fit, as machine code.

``capture`` runs a model on two points and writes every torch operation down as scalar expressions;
``differentiate`` takes their derivatives; ``point`` eliminates its foot, and ``pointwise`` says
what the engine asks there; ``lower`` writes it as straight-line Python over a block of points, with
what they add up to, so that a step takes one call for a block. ``solver`` and what it stands
on (``place``, ``sweep``, ``feet``, ``newton``, ``matrix``, ``carry``, ``proposal``, ``ending``) are
the engine on numbers, entered at ``entry``. Small fits of a batch go eight at a time (``eights``):
in ``abreast`` the same steps are written on registers, one lane for each fit, and made for one
``kind`` of fits. ``translate`` turns all of it into LLVM, ``machine`` keeps the machine code on
disk, ``cpu`` runs it in threads. What cannot be captured is refused with a
reason, and the caller falls back to the eager engine. With ``GRADFIT_JIT=0`` all of it runs
as the Python it is.
"""
