"""What two runs of the same fits have in common whatever the processor.

The last bit of a sum depends on the width of a register and on whether products are fused. Where a
promise is as small as its own rounding error it decides whether one more step is taken, and which
of the tests for convergence is met. So answers and verdicts are compared, and how often such a tie
falls the other way; how often exactly, no law can say.
"""

from typing import Any

import numpy as np

from gradfit import Status

GOOD = [s.value for s in Status if s.ok]
SHARE = 0.05
"""Fits that may take other steps than another way of running them, where the last bit decides."""


def assert_same_ends(found: Any, wanted: Any, share: float = SHARE) -> None:
    """Two fits, or tables of them, ended alike.

    The same ones converged; the others failed for the same reason; and no more than ``share`` of
    them took other steps, or met another of the tests for convergence. One may always have taken a
    step more or less.
    """
    status, steps = (
        [np.atleast_1d(getattr(r, n)).astype(int) for r in (found, wanted)]
        for n in ("status", "n_steps")
    )
    good = np.isin(status[1], GOOD)
    np.testing.assert_array_equal(np.isin(status[0], GOOD), good)
    np.testing.assert_array_equal(*(s[~good] for s in status))
    ties = (np.not_equal(*steps) | np.not_equal(*status)) & good
    far = (abs(np.subtract(*steps)) > 1) & good
    assert ties.sum() <= max(1, share * good.size), f"{ties.sum()} of {good.size} fits differ"
    assert far.sum() <= share * good.size, f"{far.sum()} of {good.size} are more than a step apart"
