"""Steps on a terminal: one line each while it runs and after, on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class StepProgress:
    """Shows the steps of a run; :meth:`within` is the progress protocol of long work inside a step."""

    def __init__(self, bars: Progress, console: Console) -> None:
        self._bars = bars
        self._console = console
        self._task = bars.add_task("", visible=False)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """While a step runs."""
        self._bars.reset(self._task, description=name, visible=True, total=None)
        started = time.monotonic()
        try:
            yield
        except BaseException:
            self._console.print(f"[red]✗[/] {name}")
            raise
        finally:
            self._bars.update(self._task, visible=False)
        self._console.print(f"[green]✓[/] {name} [dim]{time.monotonic() - started:.1f} s[/]", highlight=False)

    def within(self, task: str, done: int, total: int) -> None:
        """Progress of long work."""
        self._bars.update(self._task, completed=done, total=total)


@contextmanager
def step_progress(console: Console, *, quiet: bool) -> Iterator[StepProgress]:
    """A live display; without a terminal one line a step, with ``quiet`` nothing."""
    shown = Console(stderr=True, quiet=True) if quiet else console
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=shown, transient=True, disable=quiet or not shown.is_terminal) as bars:
        yield StepProgress(bars, shown)
