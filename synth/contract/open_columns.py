"""Open columns of a contract: what selecting their categories takes of the release's δ.

A category is released if a noisy count passes a threshold, which a single person's own value does with some small
probability. That probability adds to δ, whatever the noise, each time that the selection runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from synth.contract.columns import OpenCategoricalColumn

if TYPE_CHECKING:
    from synth.contract.models import Privacy

DEFAULT_SHARE_OF_DELTA = Fraction(1, 10)
_MOST = 0.5  # of privacy.delta, all attempts together: the rest of the release has to live on what is left


def open_columns(columns: Mapping[str, Any]) -> dict[str, OpenCategoricalColumn]:
    """The columns whose categories are not public, in the contract's order."""
    return {name: column for name, column in columns.items() if isinstance(column, OpenCategoricalColumn)}


def selection_deltas(columns: Mapping[str, Any], delta: float) -> dict[str, float]:
    """What each open column takes of ``delta``, privacy.delta, each time the selection runs."""
    opened = open_columns(columns)
    default = float(Fraction(repr(delta)) * DEFAULT_SHARE_OF_DELTA / max(1, len(opened)))
    return {name: column.selection_delta or default for name, column in opened.items()}


def selection_faults(columns: Mapping[str, Any], privacy: Privacy) -> Iterator[tuple[str, str, str]]:
    """Path, given and problem of every open column that takes too much."""
    total = math.fsum(selection_deltas(columns, privacy.delta).values()) * privacy.max_attempts
    if total <= _MOST * privacy.delta * (1 + 1e-9):
        return
    for name, column in open_columns(columns).items():
        if column.selection_delta is not None:
            yield (
                f"schema.{name}.selection_delta",
                f"{column.selection_delta:g}",
                f"all open columns, max_attempts={privacy.max_attempts} times, take {total:.3g}; accepted: at most "
                f"half of privacy.delta, {_MOST * privacy.delta:g}",
            )
