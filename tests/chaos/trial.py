"""One trial: a run whose workers are killed, taken up again as a retry would, and judged.

A trial is plain values: its ``kind`` and what that kind takes.

- ``boundary``: one worker is killed at the boundary ``at`` (`tests.chaos.boundaries`).
- ``random``: one is killed ``delay_s`` after it began ``step``.
- ``repeated``: one after the other is killed, each at its boundary in ``at``.
- ``together``: two workers do ``step`` and what follows at once; one is killed ``delay_s`` after it began.
- ``paused``: one stops at ``at``; another one does the rest of that ``step``, or of the run (``far``); then the first
  goes on, to be killed ``more`` boundaries later if that is not null.
- ``crossed``: one stops at ``at``, another one stops at ``other``; the first goes on, then the second does, or is
  killed where it stands if ``dies``.
- ``settled``: one stops at ``at``, the run is settled, the first goes on; nobody takes the run up again.
- ``clean``: nobody dies; two workers run one after the other.

Whoever takes the run up again starts at `allocate`, with the same run id, and tries again while the error is one that
is worth it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from synth import steps
from synth.errors import SluiceError
from synth.plan import ReleasePlan
from synth.run import plan_release
from tests.chaos import instruments
from tests.chaos.boundaries import Boundaries
from tests.chaos.child import Child, answer
from tests.chaos.judge import judge, observe
from tests.chaos.trace import Trace
from tests.chaos.twins import TWINS
from tests.chaos.world import World

RETRIES = 6
WORK = (*(step for step in steps.STEPS if step is not steps.preflight), steps.settle)
NAMES = [step.__name__ for step in WORK]
Spec = dict[str, Any]
Step = Callable[..., Any]


class Stage:
    """One world with its workers and what was seen of it."""

    def __init__(self, world: World, plan: ReleasePlan, twin: str | None) -> None:
        self.world = world
        self.trace = Trace(world.notes / "trace.jsonl")
        self.observations: list[dict[str, Any]] = []
        self._workers: list[Child] = []
        self._plan = plan
        self._twin = twin
        self._output = Path(world.notes / "output")

    def worker(
        self, at: dict[str, signal.Signals] | None = None, work: Sequence[Step] = WORK, more: int | None = None
    ) -> Child:
        """Start one that does these steps; for signals see :class:`tests.chaos.boundaries.Boundaries`."""
        boundaries = Boundaries(self.world.folder, self.trace, at or {}, more)
        self._workers.append(Child(lambda lines: self._work(lines, boundaries, work), self._output))
        return self._workers[-1]

    @property
    def killed(self) -> int:
        """How many workers died."""
        return sum(worker.killed for worker in self._workers)

    def observe(self) -> None:
        """Look at what is there."""
        self.observations.append(self._asked(lambda: observe(self.world)))

    def take_up(self) -> str:
        """Retry until the run finishes or refuses; how it ended."""
        error = "no outcome"
        for _ in range(RETRIES):
            worker = self.worker()
            worker.ended()
            outcome = next(note for note in reversed(self.trace.notes("outcome")) if note["pid"] == worker.pid)
            if outcome["error"] is None:
                return "finished"
            error = f"{outcome['error']} in {outcome['step']}"
            if not outcome["retry"]:
                break
        self.worker(work=(steps.settle,)).ended()  # a teardown always runs
        return error

    def problems(self) -> dict[str, list[str]]:
        """What is wrong, by counter."""
        found: dict[str, list[str]] = self._asked(lambda: judge(self.world, self.trace, self.observations))
        return found

    def _asked(self, question: Callable[[], Any]) -> Any:
        """The client of an object store starts a thread, which must not be in a process that forks."""
        return answer(question, self._output) if self.world.bucket.startswith("s3://") else question()

    def _work(self, lines: int, boundaries: Boundaries, work: Sequence[Step]) -> None:
        instruments.rebind(plan_release, lambda *_, **__: self._plan)  # it follows from public facts, and is slow
        if self._twin is not None:
            TWINS[self._twin]()
        instruments.install(self.world, self.trace, boundaries)
        with self.world.run() as run:
            for step in work:
                name, begun = step.__name__, time.perf_counter()
                os.write(lines, f"{name}\n".encode())
                boundaries.step(name)
                try:
                    step(run)
                except SluiceError as error:
                    facts = {"error": type(error).__name__, "retry": error.retry, "text": str(error)}
                    self.trace.note("outcome", step=name, **facts)
                    return
                self.trace.note("step", name=name, seconds=time.perf_counter() - begun)
        self.trace.note("boundaries", names=boundaries.names)
        self.trace.note("outcome", step=None, error=None)


def run_trial(world: World, plan: ReleasePlan, spec: Spec) -> dict[str, Any]:
    """Carry a trial out; its report as plain values."""
    begun = time.perf_counter()
    world.enter()
    stage = Stage(world, plan, spec.get("twin"))
    outcome = _KINDS[spec["kind"]](stage, spec)
    stage.observe()
    problems = stage.problems()
    if outcome not in ("finished", "given up") and not _may_refuse(stage, outcome):
        problems["unfinished"] = [outcome]
    return {
        "spec": spec,
        "outcome": outcome,
        "signals": [f"{note['signal']} {note['at']} {note['name']}" for note in stage.trace.notes("signal")],
        "errors": [note["text"] for note in stage.trace.notes("outcome") if note["error"]],
        "problems": problems,
        "boundaries": next((note["names"] for note in stage.trace.notes("boundaries")), {}),
        "durations_s": {note["name"]: note["seconds"] for note in reversed(stage.trace.notes("step"))},
        "killed": stage.killed,
        "looks": len(stage.trace.notes("look")),
        "reads": len(stage.trace.notes("read")),
        "outputs": sorted({note["mechanism"] for note in stage.trace.notes("output")}),
        "seconds": time.perf_counter() - begun,
    }


def _may_refuse(stage: Stage, outcome: str) -> bool:
    """Whether the run had to end without a release, by what the ledger says."""
    entries = stage.world.entries()
    facts = dict(entries)
    starts = [payload["mechanism"] for kind, payload in entries if kind == "start"]
    if outcome.startswith("AttemptsExhausted"):
        return max(map(starts.count, starts)) == facts["reserve"]["max_attempts"]
    # A late worker charged another attempt after the statement was written, which would say too little.
    return outcome == "NotApproved in publish" and {n: starts.count(n) for n in starts} != facts["gate"]["attempts"]


def _clean(stage: Stage, spec: Spec) -> str:
    stage.worker().ended()
    stage.observe()
    return stage.take_up()


def _boundary(stage: Stage, spec: Spec) -> str:
    stage.worker({spec["at"]: signal.SIGKILL}).ended()
    stage.observe()
    return stage.take_up()


def _random(stage: Stage, spec: Spec) -> str:
    _killed_in(stage.worker(), spec)
    stage.observe()
    return stage.take_up()


def _repeated(stage: Stage, spec: Spec) -> str:
    for number in spec["at"]:
        stage.worker({number: signal.SIGKILL}).ended()
        stage.observe()
    return stage.take_up()


def _together(stage: Stage, spec: Spec) -> str:
    first = NAMES.index(spec["step"])
    stage.worker(work=WORK[:first]).ended()
    # Nobody settles a run that another worker is still at.
    workers = [stage.worker(work=WORK[first:-1]) for _ in range(2)]
    _killed_in(workers[0], spec)
    stage.observe()
    workers[1].ended()
    stage.observe()
    return stage.take_up()


def _paused(stage: Stage, spec: Spec) -> str:
    late = stage.worker({spec["at"]: signal.SIGSTOP}, WORK[:-1], spec["more"])
    if late.stopped():
        reached = 1 + NAMES.index(spec["step"]) if spec["far"] == "step" else len(WORK) - 1
        stage.worker(work=WORK[:reached]).ended()
        stage.observe()
        late.go_on()
        late.ended()
        stage.observe()
    return stage.take_up()


def _crossed(stage: Stage, spec: Spec) -> str:
    first = stage.worker({spec["at"]: signal.SIGSTOP}, WORK[:-1])
    if first.stopped():
        second = stage.worker({spec["other"]: signal.SIGSTOP}, WORK[:-1])
        stopped = second.stopped()
        stage.observe()
        if stopped and spec["dies"]:
            second.kill()
            second.ended()
        first.go_on()
        first.ended()
        stage.observe()
        if stopped and not spec["dies"]:
            second.go_on()
            second.ended()
            stage.observe()
    return stage.take_up()


def _settled(stage: Stage, spec: Spec) -> str:
    late = stage.worker({spec["at"]: signal.SIGSTOP}, WORK[:-1])
    if late.stopped():
        stage.worker(work=(steps.settle,)).ended()
        stage.observe()
        late.go_on()
        late.ended()
    return "given up"


def _killed_in(worker: Child, spec: Spec) -> None:
    if worker.said(spec["step"]):
        time.sleep(spec["delay_s"])
        worker.kill()
    worker.ended()


_KINDS: dict[str, Callable[[Stage, Spec], str]] = {
    "clean": _clean,
    "boundary": _boundary,
    "random": _random,
    "repeated": _repeated,
    "together": _together,
    "paused": _paused,
    "crossed": _crossed,
    "settled": _settled,
}
KINDS = tuple(_KINDS)
