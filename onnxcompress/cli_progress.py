"""Progress on standard error, with an estimate of what is left."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining

from onnxcompress.progress import Advance


class TerminalProgress:
    """One bar for each stage; plain lines where standard error is no terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            Remaining(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def stage(self, title: str) -> Advance:
        """See `progress.Progress.stage`."""
        if not self._console.is_terminal:
            self._console.print(title)
            return _quiet
        task: TaskID | None = None

        def advance(done: int, total: int) -> None:
            nonlocal task
            if task is None:
                task = self._bars.add_task(title, total=total)
            self._bars.update(task, completed=done, total=total)
            if done >= total:  # what is over makes room for what goes on
                self._bars.remove_task(task)
                task = None

        return advance

    def warn(self, text: str) -> None:
        """See `progress.Progress.warn`."""
        self._console.print(f"warning: {text}", style="yellow", markup=False)


def _quiet(done: int, total: int) -> None:
    del done, total
