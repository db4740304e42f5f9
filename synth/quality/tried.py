"""One target's models, and the holdout that they are tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from synth.guard import Sealed, Spend
from synth.quality.learners import Learner, features
from synth.records import CodedRecords, Records
from synth.schema import Codes, Schema


@dataclass(frozen=True)
class Tried:
    """What is tried on the holdout for one target.

    :ivar mechanism: that pays for it.
    :ivar learners: trained on the release.
    :ivar label_model: the label of each row of codes by the synthesizer itself.
    :ivar distribution: the target's released marginal.
    :ivar named: whether numbers carry the target's name, since there are several.
    """

    mechanism: str
    target: str
    schema: Schema
    learners: tuple[Learner, Learner]
    label_model: Callable[[Codes], npt.NDArray[Any]]
    holdout: Sealed[Records]
    coded: Sealed[CodedRecords]
    distribution: npt.NDArray[np.float64]
    max_records: int
    named: bool

    def answers(self, spend: Spend) -> list[npt.NDArray[Any]]:
        """Of the two learners and the label model, for each record of the holdout. Private.

        None for nobody: some learners refuse to predict then, which would tell that nobody is there.
        """
        codes = self.coded.open(spend).codes
        if not len(codes):
            return []
        inputs = features(self.schema, self.holdout.open(spend).parsed, self.target)
        return [*(learner.predict(inputs) for learner in self.learners), self.label_model(codes)]

    def name(self, measured: str) -> str:
        """A measurement's name."""
        return f"{measured}_{self.target}" if self.named else measured

    def title(self, title: str) -> str:
        """A measurement's title."""
        return f"{self.target}: {title[0].lower()}{title[1:]}" if self.named else title
