"""How a descent ends, and which words go with it."""

from enum import IntEnum


class DescentStatus(IntEnum):
    """How a descent ended.

    Values below 10 are good. ``ok`` tells; ``message`` says what happened and what to try.
    """

    RUNNING = 0
    CONVERGED = 1
    MAX_EPOCHS = 10
    EARLY_STOP = 11
    STALLED = 12
    NONFINITE = 13
    DIVERGED = 14
    INTERRUPTED = 15
    STOPPED = 16
    SADDLE = 17
    SINGULAR = 18

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"

    def __format__(self, spec: str) -> str:
        return format(int(self) if spec[-1:] in tuple("bcdoxXneEfFgG%") else str(self), spec)

    @property
    def ok(self) -> bool:
        """Whether the descent arrived."""
        return 0 < self.value < 10

    @property
    def message(self) -> str:
        """One sentence: what happened, and what to try."""
        return _MESSAGES[self]


_MESSAGES = {
    DescentStatus.RUNNING: "still running",
    DescentStatus.CONVERGED: "converged: the gradient vanished",
    DescentStatus.MAX_EPOCHS: "all epochs done before the gradient vanished",
    DescentStatus.EARLY_STOP: "stopped early: the loss no longer improved within `patience` epochs",
    DescentStatus.STALLED: "stalled: no step lowers the loss any more, and this is no minimum; "
    "the diagnosis says why",
    DescentStatus.NONFINITE: "the loss or its gradient became NaN or inf; "
    'lower `lr`, or try `clip=` or `schedule="auto"`',
    DescentStatus.DIVERGED: "diverged: the loss grew without end; "
    'lower `lr`, or try `schedule="auto"`',
    DescentStatus.INTERRUPTED: "interrupted from the keyboard; the best step so far is kept",
    DescentStatus.STOPPED: "stopped on request; the best step so far is kept",
    DescentStatus.SADDLE: "the gradient vanished at a saddle, which is no minimum; "
    "start from other values",
    DescentStatus.SINGULAR: "the gradient vanished, but the loss does not determine every "
    "parameter; fix one or simplify the loss",
}
