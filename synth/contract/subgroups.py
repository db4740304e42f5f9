"""What columns may be named for subgroups: those whose groups are public and few."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synth.contract.columns import BooleanColumn, CategoricalColumn, IntegerColumn

MOST_GROUPS = 50  # of one column: more are neither read by anybody nor told apart by the noise


def subgroup_problems(
    quality: Any, task: Any, columns: Mapping[str, Any] | None, known: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """What was given and what is wrong with it, for each column of ``quality.subgroups`` that cannot be one.

    :param columns: the parsed schema, None where it has faults of its own.
    :param known: the schema's column names, parsed or not.
    """
    names = quality.subgroups if quality is not None else ()
    if names and task is not None and all(target.kind == "regression" for target in task.wanted):
        yield "", "subgroups need a target of kind binary or multiclass: of it they tell the accuracy"
    for name in names:
        if known and name not in known:
            yield repr(name), f"is not a column of the schema: {', '.join(known)}"
        elif columns is not None and (problem := _unfit(columns[name])):
            yield repr(name), problem


def _unfit(column: Any) -> str:
    if isinstance(column, BooleanColumn):
        return ""
    if isinstance(column, CategoricalColumn):
        groups = len(column.categories)
        return f"has {groups} categories; accepted: at most {MOST_GROUPS}" if groups > MOST_GROUPS else ""
    if isinstance(column, IntegerColumn) and column.max - column.min < MOST_GROUPS:
        return ""
    if (getattr(column, "bins", None) or math.inf) <= MOST_GROUPS:
        return ""
    return (
        f"is of type {column.type}, whose groups are too many or not public; accepted: boolean, categorical, or "
        f"numbers with few cells: declare bins for this column, at most {MOST_GROUPS}"
    )
