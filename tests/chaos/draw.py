"""Which trials there are: every boundary that a clean run passed, and draws of every kind."""

from __future__ import annotations

import random
from typing import Any

from tests.chaos.boundaries import pausable

Spec = dict[str, Any]
RANDOM_STEPS = ("train", "generate", "publish")
_LATER = (None, 1, 2, 3, 5, 8, 13)


class Draws:
    """Draws trials for a run whose boundaries and durations a clean trial has found.

    :param clean: the report of that trial. :param where: what every trial says about its place: backend, bucket.
    """

    def __init__(self, clean: dict[str, Any], where: Spec, seed: int = 0) -> None:
        self._names: dict[str, str] = clean["boundaries"]
        self._durations_s: dict[str, float] = clean["durations_s"]
        self._where = where
        self._random = random.Random(seed)
        self._pausable = [at for at, name in self._names.items() if pausable(name) and step_of(at) != "settle"]

    def boundaries(self, step: str | None = None) -> list[Spec]:
        """One kill at each boundary, or at each of one step."""
        return [self._spec("boundary", at=at) for at in self._names if step in (None, step_of(at))]

    def boundary(self) -> Spec:
        """A kill at one of them."""
        return self._spec("boundary", at=self._random.choice(list(self._names)))

    def random(self, step: str) -> Spec:
        """A kill at any moment of a step."""
        return self._spec("random", step=step, delay_s=self._delay_s(step))

    def repeated(self) -> Spec:
        """Two or three kills in a row."""
        return self._spec("repeated", at=self._random.choices(list(self._names), k=self._random.choice((2, 3))))

    def together(self) -> Spec:
        """Two workers at once, one killed at any moment of the step that they begin with."""
        step = self._random.choice([name for name in self._durations_s if name != "settle"])
        return self._spec("together", step=step, delay_s=self._delay_s(step))

    def paused(self) -> Spec:
        """A worker that is late."""
        at, far, more = (self._random.choice(each) for each in (self._pausable, ("step", "end"), _LATER))
        return self._spec("paused", at=at, step=step_of(at), far=far, more=more)

    def crossed(self, step: str | None = None) -> Spec:
        """Two that stop in the same step."""
        at = self._random.choice([each for each in self._pausable if step in (None, step_of(each))])
        other = self._random.choice([each for each in self._pausable if step_of(each) == step_of(at)])
        return self._spec("crossed", at=at, other=other, dies=self._random.random() < 0.5)

    def settled(self) -> Spec:
        """A worker that does not know that its run was settled."""
        return self._spec("settled", at=self._random.choice(self._pausable))

    def of_each_kind(self, number: int) -> list[Spec]:
        """As many trials of every kind; of kills at any moment, of every step that they are for."""
        kinds = (self.boundary, self.repeated, self.together, self.paused, self.crossed, self.settled)
        drawn = [kind() for kind in kinds for _ in range(number)]
        return drawn + [self.random(step) for step in RANDOM_STEPS for _ in range(number)]

    def _delay_s(self, step: str) -> float:
        return self._random.uniform(0, self._durations_s[step])

    def _spec(self, kind: str, **options: Any) -> Spec:
        return {"kind": kind, **self._where, **options}


def step_of(boundary: str) -> str:
    """The step that a boundary is in."""
    return boundary.partition("+")[0]
