"""A progress bar on standard error, for those who asked for one."""

from types import TracebackType
from typing import Self


class Bar:
    """Counts refits while they go on; silent unless it is asked to show."""

    def __init__(self, what: str, total: int, show: bool) -> None:
        self.progress = None
        if not show:
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining

        self.progress = Progress(
            TextColumn(what),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            Remaining(compact=True),
            console=Console(stderr=True),
        )
        self.task = self.progress.add_task("", total=total)

    def __enter__(self) -> Self:
        if self.progress is not None:
            self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.progress is not None:
            self.progress.stop()

    def advance(self, count: int) -> None:
        """Count some more."""
        if self.progress is not None:
            self.progress.advance(self.task, count)
