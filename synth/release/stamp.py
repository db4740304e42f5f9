"""What every output of a run with an unsafe seed carries: that nothing private may be concluded from it.

Everything that draws in such a run comes from one seed (:mod:`synth.unsafe`), so whoever knows it can take the noise
off. No ε holds, and none is stated.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NOT_PRIVATE = "NOT PRIVATE"
PARQUET_KEY = b"sluice"
_STATEMENT = "privacy_statement.json"


def notice(seed: int) -> str:
    """The stamp in one paragraph."""
    return (
        f"{NOT_PRIVATE}. All noise and every choice of this run were drawn from the seed {seed} (--unsafe-seed), so "
        "whoever knows the seed can take the noise off: no differential privacy holds, for any epsilon. Such a run "
        "exists to be repeated in tests on made-up rows. It cannot be approved and is never published; do not share it."
    )


def stamp(seed: int | None) -> dict[str, Any]:
    """Fields that mark a document; none for a run that drew from secret randomness."""
    return {} if seed is None else {"not_private": True, "unsafe_seed": seed, "notice": notice(seed)}


def is_stamped(folder: Path) -> bool:
    """Whether a bundle says of itself that it is not private."""
    try:
        statement = json.loads((folder / _STATEMENT).read_bytes())
    except (FileNotFoundError, ValueError):
        return False  # no bundle of ours, which its digest tells
    return isinstance(statement, dict) and "not_private" in statement
