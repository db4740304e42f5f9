"""What is wrong with a task, seen together with the columns and the method: each as (path, given, problem)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synth.contract.methods import MOST_CLASSES, IndependentOptions, MixtureOptions
from synth.contract.task import Quality, Target, Task

_NUMBERS = ("integer", "number")
_ACCURACIES = ("min_accuracy_gradient_boosting", "min_accuracy_logistic_regression")
_ERRORS = ("max_error_gradient_boosting", "max_error_linear_regression")


def task_faults(task: Task, known: Sequence[str], values: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """:param known: names of the schema's columns.
    :param values: the sections that parsed.
    """
    columns, method, quality = values.get("schema", {}), values.get("method"), values.get("quality")
    for position, target in enumerate(task.wanted):
        path = f"task.targets.{position}" if task.targets else "task"
        if target.target not in known:
            yield f"{path}.target", repr(target.target), f"is not a column of the schema: {', '.join(known)}"
        elif target.target in columns:
            yield from _kind_faults(path, columns[target.target], target)
            yield from _class_faults(path, columns[target.target], target, method)
    if isinstance(getattr(method, "options", None), IndependentOptions):
        yield from _faults_of_independent(task)
    if quality is not None:
        yield from _threshold_faults(task, quality)


def _kind_faults(path: str, column: Any, target: Target) -> Iterator[tuple[str, str, str]]:
    name, classes = repr(target.target), _classes(column)
    if target.kind == "regression":
        if column.type not in _NUMBERS:
            accepted = "use binary or multiclass" if classes else "accepted: integer or number"
            problem = f"the target {name} is of type {column.type}; {accepted}"
            yield f"{path}.kind", target.kind, problem
    elif not classes:
        problem = f"is of type {column.type}; accepted: boolean or categorical, or kind: regression"
        yield f"{path}.target", name, problem
    elif target.kind == "binary" and classes != 2:
        yield f"{path}.kind", target.kind, f"the target {name} has {classes} categories, not 2"
    elif target.kind == "multiclass" and classes < 3:
        yield f"{path}.kind", target.kind, f"the target {name} has {classes} categories; use binary"


def _class_faults(path: str, column: Any, target: Target, method: Any) -> Iterator[tuple[str, str, str]]:
    classes = _classes(column)
    if isinstance(getattr(method, "options", None), MixtureOptions) and classes > MOST_CLASSES:
        problem = f"has {classes} categories; accepted with structure mixture: at most {MOST_CLASSES}"
        yield f"{path}.target", repr(target.target), problem


def _classes(column: Any) -> int:
    return 2 if column.type == "boolean" else len(getattr(column, "categories", ()))


def _faults_of_independent(task: Task) -> Iterator[tuple[str, str, str]]:
    """Its label model is one classifier."""
    instead = "is not supported by structure: independent; accepted with structure: mixture, the default"
    if len(task.wanted) > 1:
        yield "task.targets", "", f"more than one target {instead}"
    for position, target in enumerate(task.wanted):
        if target.kind == "regression":
            yield f"task.targets.{position}.kind" if task.targets else "task.kind", target.kind, instead


def _threshold_faults(task: Task, quality: Quality) -> Iterator[tuple[str, str, str]]:
    kinds = {target.kind for target in task.wanted}
    for fields, measured, what in (
        (_ACCURACIES, kinds - {"regression"}, "accuracies are measured of binary and multiclass targets"),
        (_ERRORS, kinds & {"regression"}, "errors are measured of regression targets"),
    ):
        for field in fields:
            value = getattr(quality, field)
            if value is not None and not measured:
                yield f"quality.{field}", f"{value:g}", f"{what}, and the task has none; leave it out"
