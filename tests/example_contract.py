"""A small contract that the tests change at single paths."""

from __future__ import annotations

import copy
import json
from functools import lru_cache
from typing import Any

from synth.contract import Contract, contract_from_document
from synth.plan import ReleasePlan
from synth.run import plan_release

_DOCUMENT: dict[str, Any] = {
    "version": 1,
    "dataset": {
        "name": "clinic",
        "title": "Visits to a clinic",
        "owner": "The clinic",
        "description": "One row a person.",
        "licence": "CC0-1.0",
    },
    "source": {"uri": "clinic.csv"},
    "privacy": {"unit": {"column": "person"}, "epsilon": 2.0, "delta": 1e-5, "approximate_units": 2000},
    "schema": {
        "age": {"type": "integer", "min": 0, "max": 99},
        "income": {"type": "number", "min": 0, "max": 50000, "decimals": 2, "nullable": True},
        "city": {"type": "categorical", "categories": ["Bern", "Graz", "Linz"], "nullable": True},
        "tier": {"type": "categorical", "categories": [1, 2, 3]},
        "smoker": {"type": "boolean"},
        "ill": {"type": "boolean"},
    },
    "task": {"target": "ill", "kind": "binary"},
    "method": {"options": {"structure": "independent", "batch_size": 128, "steps": 30}},
    "rows": 1000,
    "approval": {"mode": "automatic"},
    "publish": {"uri": "bucket"},
}

REMOVED = object()


def document(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The document with values replaced at dotted paths; ``REMOVED`` removes the field."""
    result = copy.deepcopy(_DOCUMENT)
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is REMOVED:
            del node[last]
        else:
            node[last] = value
    return result


def contract(changes: dict[str, Any] | None = None) -> Contract:
    """The contract of :func:`document`."""
    return contract_from_document(document(changes))


def planned(changes: dict[str, Any] | None = None) -> ReleasePlan:
    """The plan of :func:`contract`, a fifth of the units in the holdout; made once."""
    return _planned(json.dumps(changes or {}))


@lru_cache
def _planned(changes: str) -> ReleasePlan:
    return plan_release(contract(json.loads(changes)), 0.2)
