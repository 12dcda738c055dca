"""Shows the progress of a sweep's trainings: lines for events; on a terminal, also bars."""

import sys
import time
from collections.abc import Sequence

from tqdm import tqdm  # type: ignore[import-untyped]

from src.experiment.table import MISSING
from src.sweeping.job import Elsewhere, Job, Outcome, Started
from src.system.closing import Closing


class View(Closing):
    """On a terminal, one bar for all jobs and one for each running job; always, event lines."""

    def __init__(self, total: int | None, done: int, at_once: int) -> None:
        """Show the bar of all jobs.

        Args:
            total: the number of jobs, with those finished earlier; None if unknown.
            done: how many were finished earlier.
            at_once: the largest number of jobs that run at the same time.
        """
        self._all = tqdm(
            total=total,
            initial=done,
            desc="all",
            bar_format="{desc}: {n:.1f} [{elapsed}]"
            if total is None
            else "{desc}: {percentage:.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]",
            disable=None,  # disabled if stderr is not a terminal
            leave=False,
            dynamic_ncols=True,
        )
        self._of = "so far" if total is None else f"of {total}"
        self._done = done
        self._free = list(range(at_once, 0, -1))
        self._bars: dict[str, tuple[int, tqdm]] = {}

    def close(self) -> None:
        """Remove the bars."""
        for _, bar in self._bars.values():
            bar.close()
        self._all.close()

    def write(self, line: str) -> None:
        """Print a line above the bars; flush it, also if the output is a file."""
        tqdm.write(line)
        sys.stdout.flush()

    def started(self, running: Started) -> None:
        """Show a job."""
        if self._all.disable or isinstance(running, Elsewhere):
            self.write(f"{running.job.name}: {running.first_message}")
        position = self._free.pop()
        bar = tqdm(
            desc=running.job.name,
            unit=" steps",
            bar_format="{desc}: waiting [{elapsed}]"
            if isinstance(running, Elsewhere)
            else "{desc}: starting [{elapsed}]",
            position=position,
            disable=None,
            leave=False,
            dynamic_ncols=True,
        )
        self._bars[running.job.name] = position, bar

    def refresh(self, running: Sequence[Started]) -> None:
        """Update the bars with the jobs' progress."""
        if self._all.disable:
            return
        moved = 0.0
        for job in running:
            _, bar = self._bars[job.job.name]
            progress = job.progress()
            if progress is not None:
                if bar.total is None:
                    bar.bar_format = None  # tqdm's own
                    bar.reset(progress["max_steps"])
                    bar.initial = progress["step"]
                bar.n = progress["step"]
                loss, fraction = (
                    MISSING if progress[key] is None else f"{progress[key]:.4f}"
                    for key in ("loss", "fraction_positive")
                )
                losses = f"loss {loss}, fraction_positive {fraction}"
                is_trained = progress["step"] >= progress["max_steps"]
                bar.set_postfix_str("evaluating" if is_trained else losses, refresh=False)
                moved += bar.n / max(bar.total, 1)
            bar.refresh()
        self._all.n = self._done + moved
        self._all.refresh()

    def not_started(self, job: Job, outcome: Outcome) -> None:
        """Print that a job could not be started."""
        self._done += 1
        self.write(f"{job.name}: {outcome.failed[job.name]} ({self._done} {self._of})")

    def ended(self, ended: Started, outcome: Outcome, message: str | None = None) -> None:
        """Remove a job's bar and print how it ended.

        Args:
            ended: the job.
            outcome: how jobs have ended.
            message: how this one has, if that is not in `outcome`.
        """
        name = ended.job.name
        position, bar = self._bars.pop(name)
        self._free.append(position)
        bar.close()
        seconds = f"{time.time() - ended.started:.0f} s"
        self._done += name in outcome.finished or name in outcome.failed
        if message is not None:
            self._done += 1
            self.write(f"{name}: {message}, {seconds}")
        elif name in outcome.finished:
            self.write(f"{name}: finished in {seconds} ({self._done} {self._of})")
        elif name in outcome.failed:
            self.write(f"{name}: failed after {seconds} ({self._done} {self._of})")
        else:
            self.write(f"{name}: {ended.last_message()}")
