"""The warm parent: reads trials from its input, forks a process for each, writes a report of each to its output.

A program of its own, so that what forks has no threads. Its input is lines of JSON, each a list of trials; after the
first line that is empty it ends. One thread in each library: a pool of threads does not survive a fork.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synth import steps
from synth.plan import ReleasePlan
from tests.chaos.trial import NAMES, WORK, run_trial
from tests.chaos.world import STRUCTURES, Worlds

TRIAL_TIMEOUT_S = 240


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--postgresql", type=int, help="port of a server")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-chaos-") as folder:
        worlds = Worlds(Path(folder), arguments.postgresql)
        worlds.prepare()
        plans = {structure: _warm(worlds, structure) for structure in STRUCTURES}
        gc.collect()
        gc.freeze()  # else a child's first collection would copy all of the parent's memory
        _say({"steps": NAMES})
        for line in sys.stdin:
            if not line.strip():
                break
            for report in _carry_out(json.loads(line), worlds, plans, arguments.jobs):
                _say(report)


def _say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _warm(worlds: Worlds, structure: str) -> ReleasePlan:
    """Do everything once: what the children then find in memory they need not compute again."""
    with worlds.world(0, "sqlite", structure=structure) as world:
        world.enter()
        with world.run() as run:
            for step in (steps.preflight, *WORK):
                step(run)
            once = {mechanism.name: 1 for mechanism in run.plan.mechanisms}
            for name in once:
                run.plan.charged_epsilon({**once, name: 2})
            return run.plan


def _carry_out(trials: list[dict[str, Any]], worlds: Worlds, plans: Mapping[str, ReleasePlan], jobs: int) -> Any:
    running: dict[int, tuple[int, dict[str, Any]]] = {}
    waiting = iter(trials)
    while True:
        for spec in itertools.islice(waiting, jobs - len(running)):
            number = worlds.number()
            running[_trial(number, spec, worlds, plans)] = number, spec
        if not running:
            return
        pid, status = os.wait()
        number, spec = running.pop(pid)
        place = _report(worlds, number)
        if os.waitstatus_to_exitcode(status) == 0:
            yield json.loads(place.read_text(encoding="utf-8"))
        else:
            yield {"spec": spec, "failed": place.read_text(encoding="utf-8") if place.exists() else f"status {status}"}
        place.unlink(missing_ok=True)


def _trial(number: int, spec: dict[str, Any], worlds: Worlds, plans: Mapping[str, ReleasePlan]) -> int:
    pid = os.fork()
    if pid:
        return pid
    # A group of its own, so that none of a trial's processes outlives it.
    os.setpgid(0, 0)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
    signal.alarm(TRIAL_TIMEOUT_S)
    status = 1
    try:
        structure = spec.get("structure", "independent")
        with worlds.world(number, spec["backend"], spec.get("bucket"), structure) as world:
            report = run_trial(world, plans[structure], spec)
        _report(worlds, number).write_text(json.dumps(report), encoding="utf-8")
        status = 0
    except BaseException:
        _report(worlds, number).write_text(traceback.format_exc(), encoding="utf-8")
    finally:
        os._exit(status)


def _report(worlds: Worlds, number: int) -> Path:
    return worlds.folder / f"{number}.json"


if __name__ == "__main__":
    main()
