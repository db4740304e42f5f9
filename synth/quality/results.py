"""What the gate measured and judged, as values. Every number in here is the output of a charged mechanism."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any


@dataclass(frozen=True)
class NoisyCount:
    """A released number of records, at least one.

    :ivar noise: standard deviation of what the privacy noise adds to it.
    """

    value: float
    noise: float


@dataclass(frozen=True)
class Measurement:
    """One quality number, under DP, "before selection by the gate".

    :ivar value: the measured value.
    :ivar noise_scale: standard deviation, at most, that the privacy noise adds to ``value``.
    :ivar low: lower end of a 95 % interval: for accuracies privacy noise and sampling of the holdout together; for
        the pair distance, which is about this very holdout, privacy noise alone.
    :ivar high: its upper end.
    :ivar reference: what to compare with, e.g. the majority floor or the sampling floor; None if nothing.
    :ivar threshold: from the contract; None if it has none.
    :ivar better: ``higher`` or ``lower``.
    """

    name: str
    title: str
    value: float
    noise_scale: float
    low: float
    high: float
    reference: float | None
    reference_title: str
    threshold: float | None
    better: str

    @property
    def passed(self) -> bool:
        """Whether the measured value reaches the threshold."""
        if self.threshold is None:
            return True
        return self.value >= self.threshold if self.better == "higher" else self.value <= self.threshold

    def document(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "passed": self.passed}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Measurement:
        """The inverse of :meth:`document`."""
        return cls(**{key: value for key, value in document.items() if key != "passed"})


@dataclass(frozen=True)
class PairDistances:
    """Total variation distance of every pair of columns, release to holdout, each with the same privacy noise.

    :ivar values: shape (pairs,), in the order of ``itertools.combinations`` of the columns.
    :ivar noise_scale: standard deviation of the noise on each.
    """

    columns: tuple[str, ...]
    values: tuple[float, ...]
    noise_scale: float

    def document(self) -> dict[str, Any]:
        """Plain values: rows of (first column, second column, distance)."""
        pairs = combinations(self.columns, 2)
        return {
            "noise_scale": self.noise_scale,
            "pairs": [[*pair, round(value, 6)] for pair, value in zip(pairs, self.values, strict=True)],
        }


WIDEST_JUDGED = 0.1  # half of a subgroup's 95 % interval beyond which its accuracy is not told


@dataclass(frozen=True)
class Accuracy:
    """How often one model is right in one group, with its 95 % interval: privacy noise and sampling together.

    :ivar noise_scale: standard deviation that the privacy noise adds to ``value``, to first order.
    """

    value: float
    noise_scale: float
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        """Whether the interval is narrow enough to say anything."""
        return (self.high - self.low) / 2 <= WIDEST_JUDGED

    def document(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "enough_records": self.is_known}


@dataclass(frozen=True)
class Group:
    """One group of a column: a value, or a cell of numbers.

    :ivar records: noisy number of its holdout records; may be negative.
    :ivar accuracies: by the name of the model.
    """

    label: str
    records: int
    accuracies: Mapping[str, Accuracy]


@dataclass(frozen=True)
class Subgroups:
    """The groups of one declared column.

    :ivar records_noise: standard deviation of the noise on each group's number of records.
    :ivar everybody: accuracies over all groups, from the same counts.
    """

    column: str
    records_noise: float
    groups: tuple[Group, ...]
    everybody: Mapping[str, Accuracy]

    @property
    def known(self) -> tuple[Group, ...]:
        """Groups with enough records to say how often gradient boosting is right."""
        return tuple(group for group in self.groups if group.accuracies["gradient_boosting"].is_known)

    def document(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "column": self.column,
            "records_noise_scale": self.records_noise,
            "groups": [
                {
                    "label": group.label,
                    "records": group.records,
                    "accuracy": {name: accuracy.document() for name, accuracy in group.accuracies.items()},
                }
                for group in self.groups
            ],
            "everybody": {name: accuracy.document() for name, accuracy in self.everybody.items()},
        }


@dataclass(frozen=True)
class Judgement:
    """How one declared expectation was judged; nothing else of its evaluation survives."""

    expectation: str
    columns: tuple[str, ...]
    tolerance: float
    passed: bool

    def document(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "columns": list(self.columns)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Judgement:
        """The inverse of :meth:`document`."""
        return cls(**{**document, "columns": tuple(document["columns"])})
