"""Contracts whose task processes are killed at random moments of some steps, by SIGKILL, and judged by what is left.

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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.scheduler.conftest import Deployment
    from tests.scheduler.rest import DagRun

# Within what a step takes here when nothing else runs; a step that is over before its moment is not killed.
_LATEST_S = {"validate": 0.6, "train": 1.2, "generate": 0.3, "check": 2.0, "publish": 0.3}
_OFTEN_S = 4.0
# The steps in which a run is to die, once for each time they stand here. The last one may die out its attempts, in a
# training that takes seconds.
CONTRACTS: dict[str, tuple[str, ...]] = {
    "mortal_a": ("validate", "publish"),
    "mortal_b": ("train", "check"),
    "mortal_c": ("generate", "publish"),
    "mortal_d": ("validate", "train"),
    "mortal_e": ("generate", "check"),
    "mortal_often": ("train", "train"),
}
TRIALS = sum(map(len, CONTRACTS.values()))

IN_DAG_FILE = """
from tests.scheduler.mortal import make_mortal

make_mortal(globals().values())
"""


def deaths(home: Path, contract: str, step: str = "*") -> int:
    """How often a contract's run has died, in any step or in one."""
    return len(list((home / "deaths").glob(f"{contract}.{step}.*")))


def make_mortal(found: Iterable[Any]) -> None:
    """Of the DAGs of these contracts, the tasks that are to die."""
    from airflow.sdk import DAG

    for dag in [value for value in found if isinstance(value, DAG)]:
        name = dag.dag_id.removeprefix("share_")
        for step, times in Counter(CONTRACTS.get(name, ())).items():
            task = dag.get_task(step)
            task.__class__ = _mortal(type(task), name, times)


def _mortal(kind: Any, name: str, times: int) -> Any:
    class Mortal(kind):
        def step(self, run: Any) -> Any:
            home = Path(os.environ["SLUICE_HOME"]).parent
            died = deaths(home, name, self.task_id)
            after_s = random.SystemRandom().uniform(0, _OFTEN_S if times > 1 else _LATEST_S[self.task_id])
            timer = threading.Timer(after_s, _die, [home / "deaths" / f"{name}.{self.task_id}.{died}"])
            if died < times:
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


def judged(deployment: Deployment, run: DagRun) -> str:
    """What became of a run that is over: ``published`` or ``refused``; fails where something is not as it must be."""
    from synth.release.verify import verify_release

    name = run.dag_id.removeprefix("share_")
    died = {step: deaths(deployment.home, name, step) for step in _LATEST_S}
    kinds = Counter(entry.kind for entry in deployment.entries(run))
    starts, planned, committed = Counter(deployment.starts(run)), deployment.planned(run), deployment.committed(run)
    folders = deployment.released(run)

    assert (kinds["reserve"], kinds["settled"]) == (1, 1), kinds
    assert len(set(committed)) == len(committed), committed
    assert set(committed) <= set(starts)
    # What is charged more often than planned, a death was in the middle of; drawing and publishing charge nothing.
    charged_again = sum(starts.values()) - len(starts)
    assert charged_again <= died["validate"] + died["train"] + died["check"], (starts, died)
    assert not list((deployment.workspace(run) / "private").iterdir())

    if run.state() == "success":
        assert sorted(starts) == planned == committed
        assert (kinds["gate"], kinds["published"], len(folders)) == (1, 1, 1), (kinds, folders)
        assert verify_release(str(folders[0])).problems == ()
        assert deployment.stated_attempts(folders[0]) == dict(starts)
        return "published"
    # A mechanism died as often as it may: all of it is charged, and nothing is out.
    lost = [mechanism for mechanism in starts if mechanism not in committed]
    most = deployment.facts(run, "reserve")[0]["max_attempts"]
    assert [starts[mechanism] for mechanism in lost] == [most], starts
    assert (kinds["gate"], kinds["published"], folders) == (0, 0, []), (kinds, folders)
    assert sorted([*starts, *deployment.freed(run)]) == planned
    return "refused"
