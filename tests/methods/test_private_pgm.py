"""MST and AIM: what they recover, that they draw as often as is charged and never the same noise twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from synth import mechanisms
from synth.contract import Contract
from synth.errors import MissingExtra
from synth.events import DiscreteGaussian, ExponentialSelection, parts_of
from synth.methods.base import Synthesizer, require_packages, synthesizer
from synth.methods.tabular.network_model import NetworkModel
from synth.methods.tabular.private_pgm import aim, mst
from synth.methods.tabular.private_pgm.graphical_model import MeasuredTable, fitted
from synth.progress import silent
from synth.schema import Codes, Schema
from tests.chance import ALPHA, normal_scale_p
from tests.conftest import needs_mbi
from tests.example_contract import contract, planned
from tests.sealed import sealed_codes, uncharged

AIM: dict[str, Any] = {"method": {"name": "aim", "options": {"rounds": 5}}}
BY_NAME: dict[str, Any] = {
    "mst": {"method": {"name": "mst"}},
    "aim": AIM,
    "independent": {"method": {"name": "independent"}},
}
GRAPHICAL = [pytest.param(name, marks=needs_mbi) for name in ("mst", "aim")]
PLANTED = ("city", "smoker")  # smokers all live in one city
ROWS = 1600


def private_codes(schema: Schema) -> Codes:
    """Columns independent of each other, but for a planted pair and a label that follows the tier."""
    generator = np.random.default_rng(11)
    codes = np.column_stack([generator.integers(0, c.cells, ROWS) for c in schema.columns]).astype(np.int32)
    names = schema.names
    codes[:, names.index("smoker")] = codes[:, names.index("city")] == 1
    codes[:, names.index("ill")] = codes[:, names.index("tier")] == 2
    return codes


class Meter:
    """Counts what is drawn: tables, choices, and the noise of each vector in standard deviations."""

    def __init__(self) -> None:
        self.tables, self.choices = 0, 0
        self.noise: list[np.ndarray[Any, Any]] = []


@contextmanager
def metered() -> Iterator[Meter]:
    """Every draw of tables and choices, at the places where the methods ask for them."""
    meter, draw, choose, tables = Meter(), mechanisms.noisy_integers, mechanisms.selected, mechanisms.noisy_tables

    def drawn(values: Any, sigma: float) -> Any:
        noisy = draw(values, sigma)
        meter.noise.append((noisy - np.asarray(values)) / sigma)
        return noisy

    def counted(codes: Any, sizes: Any, columns: Any, *rest: Any) -> Any:
        meter.tables += len(columns)
        return tables(codes, sizes, columns, *rest)

    def chosen(*arguments: Any) -> int:
        meter.choices += 1
        return choose(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mechanisms, "noisy_integers", drawn)
        for module in (mst, aim):
            patch.setattr(module, "noisy_tables", counted)
            patch.setattr(module, "selected", chosen)
        yield meter


def fit(changes: dict[str, Any]) -> tuple[NetworkModel, Codes, Meter]:
    """A fitted model, the private codes, and what was drawn."""
    chosen: Contract = contract(changes)
    schema = Schema.from_contract(chosen)
    codes = private_codes(schema)
    method: Synthesizer = synthesizer(chosen.method)
    with metered() as meter:
        model: Any = method.fit(sealed_codes(codes), chosen, schema, planned(changes), uncharged, silent)
    return model, codes, meter


@lru_cache
def fitted_once(method: str) -> tuple[NetworkModel, Codes, Meter]:
    """Fits that several tests look at: each costs seconds of compiling."""
    return fit(BY_NAME[method])


def shared(codes: Codes, first: int, second: int) -> float:
    """How far the pair's table is from that of independent columns, 0 to 1."""
    table = np.zeros((codes[:, first].max() + 1, codes[:, second].max() + 1))
    np.add.at(table, (codes[:, first], codes[:, second]), 1 / len(codes))
    return float(np.abs(table - np.outer(table.sum(axis=1), table.sum(axis=0))).sum() / 2)


def released(model: NetworkModel) -> Codes:
    return np.vstack([codes for codes, _ in model.codes(4000, 3)])


@pytest.mark.statistical
@pytest.mark.parametrize("method", GRAPHICAL)
def test_a_planted_dependence_is_recovered(method: str) -> None:
    """At ε = 2 the planted pairs are hundreds of standard deviations above the others' scores."""
    model, codes, _ = fitted_once(method)
    names = model.schema.names
    drawn = released(model)
    for pair in (PLANTED, ("tier", "ill")):
        first, second = (names.index(name) for name in pair)
        assert shared(drawn, first, second) > 0.8 * shared(codes, first, second)
        assert {first, second} in [set(table) for table in model.measured]
    assert (model.predict(codes) == codes[:, -1]).mean() > 0.95


def test_independent_columns_keep_no_dependence() -> None:
    """The same rows and the same questions: the floor is told from the others by them."""
    model, codes, _ = fitted_once("independent")
    names = model.schema.names
    first, second = (names.index(name) for name in PLANTED)
    assert shared(released(model), first, second) < 0.1 * shared(codes, first, second)
    assert (model.predict(codes) == codes[:, -1]).mean() < 0.75


@pytest.mark.parametrize("method", ["independent", *GRAPHICAL])
def test_a_restored_model_draws_and_predicts_the_same(method: str) -> None:
    model, codes, _ = fitted_once(method)
    chosen = contract(BY_NAME[method])
    again: Any = synthesizer(chosen.method).restore(model.arrays(), chosen, model.schema)
    assert (released(again) == released(model)).all()
    assert (again.predict(codes) == model.predict(codes)).all()
    assert again.facts() == model.facts()


@pytest.mark.parametrize("method", ["independent", *GRAPHICAL])
def test_rows_under_a_condition_meet_it_and_labels_can_be_drawn_anew(method: str) -> None:
    model, codes, _ = fitted_once(method)
    place = model.schema.target_index
    ill = np.array([0.0, 1.0, 0.0])
    conditioned = model.given({place: ill})
    drawn = conditioned.model.draw(500, np.random.default_rng(0))
    assert (drawn[:, place] == 1).all()
    assert conditioned.rest == {}
    assert conditioned.share == pytest.approx((codes[:, place] == 1).mean(), abs=0.1)
    again = model.relabelled(codes, np.random.default_rng(1))
    assert (np.delete(again, place, axis=1) == np.delete(codes, place, axis=1)).all()
    assert (again[:, place] == 1).mean() == pytest.approx((codes[:, place] == 1).mean(), abs=0.1)


def charged(changes: dict[str, Any]) -> tuple[int, int]:
    """Tables and choices that the plan counts, beyond single columns and what others than the method draw."""
    names = {"tree", "tables", "aim"}
    events = [part for m in planned(changes).mechanisms if m.name in names for part in parts_of(m.event)]
    tables = sum(event.compositions for event in events if isinstance(event, DiscreteGaussian))
    choices = sum(event.compositions for event in events if isinstance(event, ExponentialSelection))
    return tables, choices


@pytest.mark.parametrize("method", GRAPHICAL)
def test_as_many_tables_and_choices_are_drawn_as_are_charged(method: str) -> None:
    _, _, meter = fitted_once(method)
    assert (meter.tables, meter.choices) == charged(BY_NAME[method])


@needs_mbi
def test_a_round_that_measures_one_table_more_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    two = {"method": {"name": "aim", "options": {"rounds": 2}}}
    run = aim._Rounds.run

    def greedy(self: Any, event: Any, progress: Any) -> Any:
        measured = run(self, event, progress)
        (more,) = aim.noisy_tables(self.records.codes, self.compressed.sizes, [(0, 1)], next(event.parts[1].singles()))
        return [*measured, MeasuredTable((0, 1), more.astype(np.float64), event.parts[1].sigma)]

    monkeypatch.setattr(aim._Rounds, "run", greedy)
    assert fit(two)[2].tables == charged(two)[0] + 1


def fresh(noise: list[np.ndarray[Any, Any]]) -> bool:
    """Whether draws are standard and no two begin alike."""
    together = np.concatenate([each.ravel() for each in noise])
    starts = [tuple(each.ravel()[:4]) for each in noise if each.size >= 4]
    return bool(normal_scale_p(together, 1.0) >= ALPHA) and len(set(starts)) == len(starts)


@pytest.mark.statistical
@pytest.mark.parametrize("method", GRAPHICAL)
def test_every_table_has_noise_of_its_own(method: str) -> None:
    """Rounded draws of a wide Gaussian agree four times in a row less than once in ten thousand pairs of tables."""
    _, _, meter = fitted_once(method)
    assert fresh(meter.noise)


@needs_mbi
def test_noise_that_is_used_again_or_halved_is_caught() -> None:
    _, _, meter = fitted_once("aim")
    assert not fresh([*meter.noise, meter.noise[-1]])
    assert not fresh([each / 2 for each in meter.noise])


@needs_mbi
def test_the_model_stays_within_its_size() -> None:
    small = {"method": {"name": "aim", "options": {"rounds": 2, "max_model_mb": 0.002}}}
    model, _, _ = fit(small)
    assert all(len(parents) <= 1 for parents in model.network.parents)
    assert sum(table.size for table in model.network.tables) * 8 / 2**20 < 0.004


@needs_mbi
def test_a_fitted_network_has_the_tables_that_were_measured() -> None:
    """Exact tables in, the same tables out: the elimination agrees with the package's own marginals."""
    generator = np.random.default_rng(0)
    sizes = [3, 4, 2, 3]
    whole = generator.random(sizes) ** 4
    whole *= 1000 / whole.sum()
    pairs = list(combinations(range(4), 2))[:5]
    tables = [MeasuredTable(pair, np.einsum(whole, range(4), pair), 1.0) for pair in pairs]
    network = fitted(sizes, tables, 1000.0).network
    for table, found in zip(tables, network.marginals(pairs), strict=True):
        assert found * 1000 == pytest.approx(table.counts, abs=4)


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synth.methods.base.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"sluice-dp\[private-pgm\]"):
        require_packages(contract(BY_NAME["mst"]))
    require_packages(contract(BY_NAME["independent"]))
    require_packages(contract({**BY_NAME["mst"], "compute": {"queue": "graphical"}}))
