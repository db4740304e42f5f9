"""What nobody comes back for: rows of runs that were broken off, old workspaces, halves of writes that were killed.

``settle`` ends a run and erases its rows; where it never came to that, :func:`sweep` does it later. It takes no
workspace key and no contract, so it works when either is lost. Whose folder it looks at the folder says, but it is
believed only where the deployment has that run's folder in this very place. Ages count from when the run was begun,
as the folder says and the ledger confirms, never from files that came later.

- Private rows of a run that is not settled are erased once they are older than ``retention_hours``, and the run is
  settled in the ledger: nothing that never started stays reserved, and no mechanism of the run can start any more. So
  the retention has to be longer than the longest run.
- A run that passed its gate and waits for a person is left alone until its contract's time for an answer is over; its
  private rows are erased since the gate.
- The workspace of a settled run is removed after ``workspace_days``, its key first, so that the rest is unreadable if
  the removal is cut off; the copy of its report goes with it.

A folder from the future is a clock that jumped, back or there: it is left alone and counted. What breaks this: a clock
that is ahead by more than the retention while a run is going on ends that run.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from synth.anchors import note
from synth.errors import LedgerUnavailable
from synth.ledger import Ledger
from synth.ledger.entries import Entry
from synth.settings import Settings
from synth.workspace import KEY, Occupant, erase_private, holds_private, is_temporary

# A write takes minutes. Its temporary, taken away while it lasts, would fail it and charge its mechanism again.
_WRITE_HOURS = 24
# From the gate, which the ledger knows, to the question, which Airflow asks when it comes to it.
_ASKED_WITHIN_HOURS = 24
_REMOVED = ".removed-"


@dataclass
class Sweep:
    """What was done, as numbers that anyone may see.

    :ivar settled: runs that were never settled, and now are, their private rows erased.
    :ivar removed: workspaces that are gone.
    :ivar temporaries: files that killed writes left.
    :ivar waiting: runs older than the retention that wait for a person, within their time.
    :ivar from_the_future: folders that say they were made later than now.
    :ivar unidentified: folders of which nothing says whose they are; somebody has to look.
    :ivar failures: runs that could not be swept, each with the type of the error.
    """

    settled: int = 0
    removed: int = 0
    temporaries: int = 0
    waiting: int = 0
    from_the_future: int = 0
    unidentified: int = 0
    failures: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """All as numbers."""
        return {**asdict(self), "failures": len(self.failures)}


def sweep(settings: Settings, *, now: datetime | None = None, dry_run: bool = False) -> Sweep:
    """Look at every folder below the workspaces; what fails with one does not keep the others.

    :param dry_run: counts what would be done, and does nothing.
    :raises LedgerUnavailable: without the ledger nothing is known to be over.
    """
    now, done = now or datetime.now(UTC), Sweep()
    with Ledger.open(settings.ledger_url) as ledger:
        sweeper = _Sweeper(settings, ledger, now, dry_run, done)
        for folder in _folders(settings.workspaces):
            try:
                sweeper.visit(folder)
            except LedgerUnavailable:
                raise
            except Exception as error:
                done.failures.append(f"{folder.parent.name}/{folder.name}: {type(error).__name__}")
    return done


@dataclass(frozen=True)
class _Sweeper:
    settings: Settings
    ledger: Ledger
    now: datetime
    dry_run: bool
    done: Sweep

    def visit(self, folder: Path) -> None:
        if folder.name.startswith(_REMOVED):
            self._remove(folder)
            return
        self._remove_temporaries(folder)
        occupant = Occupant.read(folder)
        if occupant is None or self.settings.run_folder(occupant.dataset, occupant.run_id) != folder:
            self.done.unidentified += 1
            return
        if occupant.created_at > self.now:
            self.done.from_the_future += 1
            return
        histories = self._histories(occupant.run)
        age = self.now - max([occupant.created_at, *(_at(history[0]) for history in histories.values())])
        over_its_retention = age > timedelta(hours=self.settings.retention_hours)
        over_its_days = age > timedelta(days=self.settings.workspace_days)
        if not over_its_retention and not over_its_days:
            return
        if any(_waits(history, occupant, self.now) for history in histories.values()):
            self.done.waiting += 1
            return
        if over_its_retention:
            self._end(folder, occupant.run, histories)
        if over_its_days and (over_its_retention or self._is_settled(occupant.run, histories)):
            self._remove(folder, self.settings.report_of(occupant.dataset, occupant.run_id))

    def _histories(self, run: str) -> dict[str, list[Entry]]:
        """The run's entries by policy; under none where it never reserved."""
        histories = {record.name: self.ledger.entries(record.name, run) for record in self.ledger.policies()}
        return {policy: history for policy, history in histories.items() if history}

    def _is_settled(self, run: str, histories: dict[str, list[Entry]]) -> bool:
        return all(self.ledger.find(policy, run, "settled") is not None for policy in histories)

    def _end(self, folder: Path, run: str, histories: dict[str, list[Entry]]) -> None:
        """Settle the run, and erase its rows; one whose own settling was cut off is settled to the end."""
        if not self._is_settled(run, histories) or holds_private(folder):
            self.done.settled += 1
        if not self.dry_run:
            for policy in histories:
                end_run(self.ledger, policy, run)
            erase_private(folder)
            if self.settings.anchors is not None:
                for policy in histories:
                    note(self.settings.anchors, policy, self.ledger.head(policy))

    def _remove(self, folder: Path, report: Path | None = None) -> None:
        """The key, then all, under a name by which the next sweep knows what this one could not finish."""
        if not self.dry_run:
            (folder / KEY).unlink(missing_ok=True)
            for path in report.parent.glob(f"{report.stem}.*") if report is not None else ():
                path.unlink(missing_ok=True)
            if not folder.name.startswith(_REMOVED):
                folder = folder.rename(folder.with_name(_REMOVED + secrets.token_hex(8)))
            shutil.rmtree(folder)
        self.done.removed += 1

    def _remove_temporaries(self, folder: Path) -> None:
        limit = (self.now - timedelta(hours=_WRITE_HOURS)).timestamp()
        for path in folder.rglob(".*"):
            if is_temporary(path.name) and path.is_file() and path.lstat().st_mtime < limit:
                if not self.dry_run:
                    path.unlink(missing_ok=True)
                self.done.temporaries += 1


def end_run(ledger: Ledger, policy: str, run: str) -> list[str]:
    """End a run in the ledger: what never started is given back, and nothing of it can start from here on.

    :returns: the mechanisms that were given back, now or before.
    """
    if ledger.find(policy, run, "reserve") is not None:
        ledger.record(policy, run, "settled", {})
    return ledger.settle(policy, run)


def _folders(workspaces: Path) -> Iterator[Path]:
    """``<dataset>/<run>`` below the workspaces; a link leads out of them and is none."""
    datasets = sorted(workspaces.iterdir()) if workspaces.is_dir() else []
    for dataset in datasets:
        if dataset.is_dir() and not dataset.is_symlink():
            yield from (path for path in sorted(dataset.iterdir()) if path.is_dir() and not path.is_symlink())


def _waits(history: list[Entry], occupant: Occupant, now: datetime) -> bool:
    """Whether a person may still answer. Asked again, the time begins again."""
    asked: datetime | None = None
    for entry in history:
        if entry.kind == "reopened" or (entry.kind == "gate" and entry.payload["passed"]):
            asked = _at(entry)
        elif entry.kind == "decision":
            asked = None
    if asked is None or not occupant.approval_hours:
        return False
    return now - asked < timedelta(hours=occupant.approval_hours + _ASKED_WITHIN_HOURS)


def _at(entry: Entry) -> datetime:
    return datetime.fromisoformat(entry.at).astimezone(UTC)
