"""Private records as tests need them: sealed, and a token that opens them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from synth.guard import Sealed, Spend
from synth.records import HOLDOUT, TRAIN, CodedRecords, Owners
from synth.schema import Codes

TOKEN = Spend("test", (TRAIN, HOLDOUT), None)


def uncharged(_: str, compute: Callable[[Spend], Mapping[str, Any]]) -> dict[str, npt.NDArray[Any]]:
    """Stands for `Run.once` where there is no ledger."""
    return dict(compute(TOKEN))


def own_units(rows: int) -> Owners:
    """Every row is a unit."""
    return np.arange(rows, dtype=np.int64)


def sealed_codes(codes: Codes, owners: Owners | None = None) -> Sealed[CodedRecords]:
    """Codes of the training branch; by default every row is a unit."""
    return Sealed(CodedRecords(codes, own_units(len(codes)) if owners is None else owners), (TRAIN,))
