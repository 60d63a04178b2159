"""One progress line on stderr: samples done, samples per second, time left. Silent when stderr is not a terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text("" if rate is None else f"{rate:,.3g} samples/s")


class Progress:
    """A bar that several runs may share: each adds its samples to the total, then counts them off.

    A context manager; outside it, and where stderr is not a terminal, nothing is shown.
    """

    def __init__(self, label: str = "samples", console: Console | None = None) -> None:
        console = Console(stderr=True) if console is None else console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(label, total=0)
        self._total = 0

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._bar.stop()

    def begin(self, label: str, samples: int) -> None:
        """Announce a run of `samples` samples."""
        self._total += samples
        self._bar.update(self._task, description=label, total=self._total)

    def advance(self, samples: int) -> None:
        """Count samples as done."""
        self._bar.advance(self._task, samples)
