"""What the trigger form may change about a contract: only what makes a release cost less or show less.

The form's JSON schema stops an honest mistake. A run can also be started over the API or by another DAG, and a schema
only knows shapes, so the same bounds are checked again in every task, before the run is opened.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from synth.errors import ContractError

EPSILON = "epsilon"
ROWS = "rows"


def made_stricter(document: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The contract's document with the parameters of a trigger in place.

    :raises ContractError: naming each parameter that is unknown, no number, or looser than the contract.
    """
    stricter = copy.deepcopy(dict(document))
    faults = [
        f"parameter {name!r}: unknown; accepted: {EPSILON}, {ROWS}. To change anything else, edit the share contract"
        for name in params
        if name not in (EPSILON, ROWS)
    ]
    if EPSILON in params:
        given, limit = params[EPSILON], document["privacy"]["epsilon"]
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= limit:
            faults.append(f"parameter {EPSILON!r}={given!r}: accepted: above 0, at most the contract's {limit:g}")
        stricter["privacy"]["epsilon"] = given
    if ROWS in params:
        given, limit = params[ROWS], document["rows"]
        if isinstance(given, bool) or not _whole(given) or not 1 <= given <= limit:
            faults.append(f"parameter {ROWS!r}={given!r}: accepted: a whole number from 1 to the contract's {limit}")
        stricter["rows"] = given
    if faults:
        raise ContractError("a trigger can only be stricter than the share contract:\n" + "\n".join(faults))
    return stricter


def _whole(given: Any) -> bool:
    return isinstance(given, int) or (isinstance(given, float) and math.isfinite(given) and given == int(given))
