"""The scores by which MST and AIM choose: a unit moves each by what its choice is charged for, and one does so by all
of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from synth import mechanisms
from synth.events import ExponentialSelection, parts_of
from synth.methods.base import synthesizer
from synth.methods.tabular.private_pgm import aim, mst
from synth.progress import silent
from synth.schema import Codes, Schema
from tests.conftest import needs_mbi
from tests.example_contract import contract, planned
from tests.sealed import sealed_codes, uncharged

RECORDS = 3
CHANGES: dict[str, dict[str, Any]] = {
    "mst": {"method": {"name": "mst"}, "privacy.max_records": RECORDS},
    "aim": {"method": {"name": "aim", "options": {"rounds": 2}}, "privacy.max_records": RECORDS},
}
METHODS = [pytest.param(name, marks=needs_mbi) for name in CHANGES]


def scores(method: str, codes: Codes, owners: Any, patch: pytest.MonkeyPatch) -> list[int]:
    """Every score of a fit in which all that is released is the same, whatever the rows."""
    found: list[int] = []

    def first(offered: Any, event: Any) -> int:
        found.extend(offered)
        return 0

    patch.setattr(mechanisms, "noisy_integers", lambda values, sigma: np.full(np.shape(values), 40))
    for module in (mst, aim):
        patch.setattr(module, "selected", first)
    chosen = contract(CHANGES[method])
    schema, fitting = Schema.from_contract(chosen), synthesizer(chosen.method)
    fitting.fit(sealed_codes(codes, owners), chosen, schema, planned(CHANGES[method]), uncharged, silent)
    return found


def moved(method: str, patch: pytest.MonkeyPatch) -> int:
    """The furthest that one unit with as many records as are kept, all alike, moves a score."""
    generator = np.random.default_rng(3)
    cells = [column.cells for column in Schema.from_contract(contract(CHANGES[method])).columns]
    others = np.column_stack([generator.integers(0, size, 300) for size in cells]).astype(np.int32)
    unit = np.repeat(others[:1], RECORDS, axis=0)
    crowd = np.repeat(unit[:1], 700, axis=0)  # so that the unit's cells hold more than what was released says
    without = np.vstack([others, crowd])
    owners = np.append(np.arange(len(without)), np.full(RECORDS, len(without)))
    here = scores(method, np.vstack([without, unit]), owners, patch)
    there = scores(method, without, np.arange(len(without)), patch)
    return int(np.abs(np.subtract(here, there)).max())


def charged(method: str) -> int:
    """The sensitivity of the choices' event."""
    events = [part for m in planned(CHANGES[method]).mechanisms for part in parts_of(m.event)]
    (found,) = [event.sensitivity for event in events if isinstance(event, ExponentialSelection)]
    return found


@pytest.mark.parametrize("method", METHODS)
def test_a_unit_moves_a_score_by_what_its_choice_is_charged_for(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert moved(method, monkeypatch) == charged(method)


@pytest.mark.parametrize("method", METHODS)
def test_scores_of_more_than_their_weight_are_caught(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (mst, aim):
        exact = module.exact_table
        monkeypatch.setattr(module, "exact_table", lambda *given, exact=exact: 2 * exact(*given))
    assert moved(method, monkeypatch) > charged(method)
