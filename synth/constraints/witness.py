"""Whether constraints can hold together: made-up rows of the public domain, brought to keep all of them.

A contract whose constraints no made-up row can keep is refused before anything is spent. The rows are even over the
declared domain and repeat from run to run; nothing private has a part in them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from synth.constraints.repair import Rules
from synth.contract import Contract
from synth.errors import ContractError
from synth.schema import Schema

_ROWS = 512
_SEED = 0  # draws the made-up rows; hides nothing


def witnesses(rules: Rules, schema: Schema) -> pd.DataFrame:
    """Made-up rows that keep all rules; none where repair finds none. Same rows each time."""
    generator = np.random.default_rng(_SEED)
    sizes = [column.size if column.nullable else column.cells for column in schema.columns]
    codes = np.column_stack([generator.integers(0, size, _ROWS) for size in sizes]).astype(np.int32)
    frame = rules.computed(schema.decode(codes, generator))
    sound = frame.iloc[np.flatnonzero(~rules.broken(frame).any(axis=0))]
    repaired = rules.repaired(frame, sound, generator)
    return repaired.iloc[np.flatnonzero(~rules.broken(repaired).any(axis=0))].reset_index(drop=True)


def require_witness(contract: Contract, schema: Schema) -> None:
    """Refuse constraints that cannot hold together. Cost: some hundred milliseconds.

    :raises ContractError: naming the constraint without which the others can, if there is one.
    """
    rules = Rules(contract.constraints, contract.columns)
    if not rules or len(witnesses(rules, schema)):
        return
    for position, constraint in enumerate(contract.constraints):
        others = contract.constraints[:position] + contract.constraints[position + 1 :]
        if not others or len(witnesses(Rules(others, contract.columns), schema)):
            raise ContractError(
                f"constraints.{position}: no row of the declared domain keeps it together with the other constraints "
                f"({constraint.text}); widen the bounds or categories that it leaves, or leave it or another one out"
            )
    raise ContractError(
        "constraints: no row of the declared domain keeps all of them, nor all but one; declare fewer, then add them "
        "one by one"
    )
