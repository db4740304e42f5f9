"""What a release says of subgroups: in one sentence on card, statement and request, and in full in the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from synth.quality.results import WIDEST_JUDGED, Group, Subgroups

_TEXT = (
    "Each model is tried on the holdout's records of each group, through one noisy histogram a column, from the "
    "mechanism gate_subgroups. Numbers of records are noisy, so that one may even be negative. A 95 % interval holds "
    "privacy noise and the sampling of the holdout. Where half of it is more than "
    f"{WIDEST_JUDGED:g}, the group has not enough records: its accuracy is not told, and no threshold is judged on it. "
    "The lowest and the highest of several noisy numbers are a little too low and too high."
)
_MOST_NAMED = 6


def document(found: Sequence[Subgroups]) -> dict[str, Any]:
    """All groups as plain values, for the report."""
    return {"text": _TEXT, "widest_judged": WIDEST_JUDGED, "columns": [subgroups.document() for subgroups in found]}


def sentence(found: Sequence[Subgroups]) -> str:
    """Between which accuracies the groups of each column are; empty where no subgroups are declared."""
    if not found:
        return ""
    return f"Accuracy of gradient boosting by group: {'; '.join(map(_of_column, found))}."


def _of_column(subgroups: Subgroups) -> str:
    known = sorted(subgroups.known, key=_accuracy)
    unknown = [group.label for group in subgroups.groups if group not in known]
    said = []
    if known:
        ends = [known[0], known[-1]] if len(known) > 1 else known
        said.append(" to ".join(f"{_accuracy(group):.2f} ({group.label})" for group in ends))
    if unknown:
        more = f" and {len(unknown) - _MOST_NAMED} more" if len(unknown) > _MOST_NAMED else ""
        said.append(f"not enough records to say for {', '.join(unknown[:_MOST_NAMED])}{more}")
    return f"{subgroups.column} {', '.join(said)}"


def _accuracy(group: Group) -> float:
    return group.accuracies["gradient_boosting"].value
