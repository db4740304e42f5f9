"""What the trigger form may change about a contract: what makes a release cost less or show less, and its window.

A window of time has a total of its own under the officer's policy, so naming another one loosens nothing: what it may
cost its people is admitted there.

The form's JSON schema stops an honest mistake. A run can also be started over the API or by another DAG, and a schema
only knows shapes, so the same bounds are checked again in every task, before the run is opened.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from airflow.sdk import Param

from synth.contract import Contract, example_of, form_of, names_window
from synth.errors import ContractError

EPSILON = "epsilon"
ROWS = "rows"
WINDOW = "window"


def offered(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The parameters that a contract's trigger form has."""
    return (EPSILON, ROWS, WINDOW) if document["privacy"].get("window") else (EPSILON, ROWS)


def form(contract: Contract) -> dict[str, Param]:
    """The trigger form of a contract's DAG."""
    privacy, window = contract.privacy, contract.privacy.window
    fields = {
        EPSILON: Param(
            privacy.epsilon,
            type="number",
            exclusiveMinimum=0,
            maximum=privacy.epsilon,
            title="Privacy loss ε",
            description="What this release is planned to cost its people. At most the contract's "
            f"{privacy.epsilon:g}; less protects better and is noisier. Attempts that die come on top.",
            section="Privacy",
        ),
        ROWS: Param(
            contract.rows,
            type="integer",
            minimum=1,
            maximum=contract.rows,
            title="Rows",
            description=f"How many synthetic rows are published: at most the contract's {contract.rows:,}. "
            "Fewer do not cost less.",
            section="Release",
        ),
    }
    if window is not None:
        fields[WINDOW] = Param(
            window.release,
            type=["null", "string"],
            pattern=f"^({form_of(window.every)})?$",
            title="Window",
            description=f"The {window.every} whose rows are released, such as {example_of(window.every)}; empty: the "
            "last one that is over. Each has a budget of its own.",
            section="Privacy",
        )
    return fields


def made_stricter(document: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The contract's document with the parameters of a trigger in place.

    :raises ContractError: naming each parameter that is unknown, no number, looser than the contract, or no window.
    """
    stricter, known = copy.deepcopy(dict(document)), offered(document)
    faults = [
        f"parameter {name!r}: unknown; accepted: {', '.join(known)}. To change anything else, edit the share contract"
        for name in params
        if name not in known
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
    if WINDOW in params and WINDOW in known:
        given, every = params[WINDOW], document["privacy"]["window"]["every"]
        if not (given is None or isinstance(given, str)) or (given and not names_window(given, every)):
            faults.append(
                f"parameter {WINDOW!r}={given!r}: accepted: a {every} such as {example_of(every)}, or nothing for the "
                "last one that is over"
            )
        stricter["privacy"]["window"]["release"] = given or None
    if faults:
        raise ContractError("a trigger can only be stricter than the share contract:\n" + "\n".join(faults))
    return stricter


def _whole(given: Any) -> bool:
    return isinstance(given, int) or (isinstance(given, float) and math.isfinite(given) and given == int(given))
