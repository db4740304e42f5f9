"""Contracts whose task processes are killed at random moments of one step, by SIGKILL, and judged by what is left.

The process kills itself, from a thread, so that a moment inside the step is met and not the one after it that a look
through the API would find. What dies is the task's process: the worker above it sees it go, and Airflow tries again.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

STEPS = ("validate", "train", "generate", "check", "publish")
# Within what a step takes here when nothing else runs; a step that is over before its moment is not killed.
_LATEST_S = {"validate": 0.6, "train": 1.2, "generate": 0.3, "check": 2.0, "publish": 0.3}
# The last one dies in each of its attempts, as long as it may try, in a training that takes seconds.
CONTRACTS: dict[str, list[str]] = {
    **{f"mortal_{step}_{n}": [step] for step in STEPS for n in (1, 2)},
    "mortal_train_often": ["train", "train"],
}
_MARKS = "deaths"

IN_DAG_FILE = """
from tests.scheduler.mortal import make_mortal

make_mortal(globals().values())
"""


def marks(home: Path, contract: str) -> list[Path]:
    """The deaths that a contract's run has died."""
    return sorted((home / _MARKS).glob(f"{contract}.*"))


def make_mortal(found: Iterable[Any]) -> None:
    """Of the DAGs of these contracts, the tasks that are to die."""
    from airflow.sdk import DAG

    for dag in [value for value in found if isinstance(value, DAG)]:
        name = dag.dag_id.removeprefix("share_")
        if name in CONTRACTS:
            task = dag.get_task(CONTRACTS[name][0])
            task.__class__ = _mortal(type(task), name, len(CONTRACTS[name]))


def _mortal(kind: Any, name: str, deaths: int) -> Any:
    class Mortal(kind):
        def step(self, run: Any) -> Any:
            home = Path(os.environ["SLUICE_HOME"]).parent
            died = len(marks(home, name))
            latest_s = 3 * _LATEST_S["train"] if deaths > 1 else _LATEST_S[self.task_id]
            timer = threading.Timer(
                random.SystemRandom().uniform(0, latest_s), _die, [home / _MARKS / f"{name}.{died}"]
            )
            if died < deaths:
                timer.start()
            try:
                return super().step(run)
            finally:
                timer.cancel()

    return Mortal


def _die(mark: Path) -> None:
    mark.parent.mkdir(exist_ok=True)
    mark.touch()
    os.kill(os.getpid(), signal.SIGKILL)


def judged(deployment: Any, run: Any) -> str:
    """What became of a run that is over: ``published`` or ``refused``; fails where something is not as it must be."""
    from synth.release.verify import verify_release

    name = run.dag_id.removeprefix("share_")
    deaths = len(marks(deployment.home, name))
    kinds = Counter(entry.kind for entry in deployment.entries(run))
    starts, planned = Counter(deployment.starts(run)), deployment.planned(run)
    committed = deployment.committed(run)
    folders = deployment.released(run)

    assert (kinds["reserve"], kinds["settled"]) == (1, 1), kinds
    assert max(Counter(committed).values()) == 1
    # Nobody looked for nothing: what is charged more often than planned, a death was in the middle of.
    assert sum(starts.values()) - len(starts) <= deaths, (starts, deaths)
    if CONTRACTS[name][0] in ("generate", "publish"):
        assert max(starts.values()) == 1, starts
    assert not (set(committed) - set(starts))
    assert not list((deployment.workspace(run) / "private").iterdir())

    if run.state() == "success":
        assert sorted(starts) == planned == committed
        assert (kinds["gate"], kinds["published"], len(folders)) == (1, 1, 1), (kinds, folders)
        assert verify_release(str(folders[0])).problems == ()
        assert deployment.stated_attempts(folders[0]) == dict(starts)
        assert run.tasks()[CONTRACTS[name][0]]["try_number"] == 1 + deaths
        return "published"
    # It died as often as it may: charged for all of it, and nothing is out.
    lost = [mechanism for mechanism in starts if mechanism not in committed]
    assert lost
    assert all(starts[mechanism] == deployment.facts(run, "reserve")[0]["max_attempts"] for mechanism in lost), starts
    assert (kinds["gate"], kinds["published"], folders) == (0, 0, []), (kinds, folders)
    assert sorted([*starts, *deployment.freed(run)]) == planned
    return "refused"
