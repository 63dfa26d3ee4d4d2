"""A progress bar on standard error, for those who asked for one."""

import time
from typing import TYPE_CHECKING

from gradfit._descend.status import DescentStatus
from gradfit._format import count, number

if TYPE_CHECKING:
    from gradfit._descend.loop import Run

REFRESH = 0.1


class Bar:
    """Shows epoch, loss and best loss while a run goes on."""

    def __init__(self, epochs: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.epochs = epochs
        self.due = 0.0
        self.progress = Progress(
            TextColumn("descending"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[words]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
        )
        self.task = self.progress.add_task("", total=epochs, words="")
        self.progress.start()

    def __call__(self, run: "Run") -> None:
        """Show the present step, now and then."""
        now = time.monotonic()
        if now < self.due and run.status is DescentStatus.RUNNING:
            return
        self.due = now + REFRESH
        words = f"{count(run.step)}/{count(self.epochs)}  loss {number(run.point.loss, 5)}"
        if run.best is not None and run.best.kept.step != run.step:
            words += f"  best {number(run.lowest, 5)} at {count(run.best.kept.step)}"
        self.progress.update(self.task, completed=run.step, words=words)

    def close(self) -> None:
        """Leave the last line on the screen."""
        self.progress.stop()
