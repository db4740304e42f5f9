"""Every row keeps every rule, whatever the model draws; labels follow the features; the cost adds up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from synth.constraints import keeping
from synth.constraints.keeping import TRIES, Cost, Source, kept
from synth.constraints.repair import Rules
from synth.constraints.sampling import Wanted
from synth.contract import Contract
from synth.errors import SamplingRefused
from synth.methods.tabular.drawing import TabularModel
from synth.schema import Codes, Schema
from tests.constraints.households import all_kept, sections
from tests.example_contract import contract
from tests.methods import test_dpdsyn, test_dpdsyn_mixture


def example(*constraints: dict[str, Any], **changes: Any) -> tuple[Contract, Schema, Rules]:
    made = contract({"constraints": list(constraints), **changes})
    return made, Schema.from_contract(made), Rules(made.constraints, made.columns)


def uniform(schema: Schema, rows: int, generator: np.random.Generator) -> Codes:
    sizes = [column.size if column.nullable else column.cells for column in schema.columns]
    return np.column_stack([generator.integers(0, size, rows) for size in sizes]).astype(np.int32)


def source(schema: Schema, **changes: Any) -> Source:
    given: dict[str, Any] = {
        "draw": lambda rows, generator: uniform(schema, rows, generator),
        "decode": schema.decode,
    }
    return Source(schema, **{**given, **changes})


def test_rows_even_over_the_domain_are_brought_to_keep_rules_of_every_kind(deployment: Any) -> None:
    made = deployment.contract(**sections())
    schema, rules = Schema.from_contract(made), Rules(made.constraints, made.columns)
    frame, cost = kept(source(schema), rules, 3000, np.random.default_rng(0))
    assert all_kept(frame)
    assert (cost.broken > 0).all()
    assert cost.rows_redrawn + cost.rows_repaired + cost.rows_replaced <= 3000
    assert cost.rows_replaced < 300
    again, _ = kept(source(schema), rules, 3000, np.random.default_rng(0))
    pd.testing.assert_frame_equal(frame, again)


def test_a_model_that_breaks_a_rule_in_every_row_is_repaired() -> None:
    _, schema, rules = example({"kind": "combinations", "columns": ["city", "smoker"], "allowed": [["Linz", True]]})

    def only_bern(rows: int, generator: np.random.Generator) -> Codes:
        codes = uniform(schema, rows, generator)
        codes[:, schema.names.index("city")] = 0
        return codes

    frame, cost = kept(source(schema, draw=only_bern), rules, 500, np.random.default_rng(0))
    assert (frame["city"] == "Linz").all()
    assert frame["smoker"].all()
    assert (cost.rows_redrawn, cost.rows_repaired, cost.rows_replaced) == (0, 500, 0)
    assert cost.repaired.tolist() == cost.redrawn.tolist() == cost.broken.tolist() == [500]


def test_drawing_again_does_not_empty_the_strata_in_which_rules_break_often() -> None:
    """Half of the smokers break the rule, and nobody else can."""
    _, schema, rules = example({"kind": "inequality", "holds": ["age", ">=", 50], "where": {"smoker": [True]}})
    frame, cost = kept(source(schema, labels=(schema.target,)), rules, 4000, np.random.default_rng(0))
    document = cost.document(rules, schema.names)
    assert cost.rows_redrawn > 800
    assert document["distances"]["smoker"] < 0.005
    assert document["distances"][schema.target] < 0.005
    smokers = frame[frame["smoker"]]
    assert smokers["age"].min() >= 50
    assert smokers["age"].mean() == pytest.approx(74.5, abs=2)  # as even as what was drawn, no heap at 50


def test_tries_are_bounded() -> None:
    _, schema, rules = example({"kind": "inequality", "holds": ["age", ">=", 99]})
    drawn = []

    def counted(rows: int, generator: np.random.Generator) -> Codes:
        drawn.append(rows)
        return uniform(schema, rows, generator)

    frame, cost = kept(source(schema, draw=counted), rules, 400, np.random.default_rng(0))
    assert (frame["age"] == 99).all()
    assert len(drawn) == TRIES + 1
    assert max(drawn) == 400
    assert cost.rows_repaired > 300


def test_what_repair_cannot_mend_is_replaced_by_rows_that_keep_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    _, schema, rules = example({"kind": "inequality", "holds": ["age", ">=", 50]})
    monkeypatch.setattr(Rules, "repaired", lambda self, frame, pool, generator: frame)
    monkeypatch.setattr(keeping, "TRIES", 0)
    frame, cost = kept(source(schema), rules, 400, np.random.default_rng(0))
    assert (frame["age"] >= 50).all()
    assert cost.rows_replaced > 100


def test_rows_that_nobody_can_find_end_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _, schema, rules = example({"kind": "inequality", "holds": ["age", ">=", 50]})
    young = source(schema, holds=lambda frame: (frame["age"] < 50).to_numpy())
    with pytest.raises(SamplingRefused, match="a wider condition"):
        kept(young, rules, 50, np.random.default_rng(0))


def test_labels_are_drawn_anew_where_features_changed_and_only_there() -> None:
    _, schema, rules = example({"kind": "functional", "column": "tier", "of": "smoker", "mapping": {True: 3, False: 1}})
    tier, target = schema.names.index("tier"), schema.target_index

    def ill_by_tier(codes: Codes, generator: np.random.Generator) -> Codes:
        labelled = codes.copy()
        labelled[:, target] = codes[:, tier] == 2
        return labelled

    def never_ill(rows: int, generator: np.random.Generator) -> Codes:
        codes = uniform(schema, rows, generator)
        codes[:, target] = 0
        return codes

    made = source(schema, draw=never_ill, relabel=ill_by_tier, labels=(schema.target,))
    frame, _ = kept(made, rules, 3000, np.random.default_rng(0))
    assert ((frame["tier"] == 3) == frame["smoker"]).all()
    smokers = frame[frame["smoker"]]
    assert smokers["ill"].mean() == pytest.approx(2 / 3, abs=0.06)  # a third had tier 3 as they were drawn
    assert not frame.loc[~frame["smoker"], "ill"].any()


def test_a_rule_about_labels_holds_after_they_are_drawn_anew() -> None:
    _, schema, rules = example(
        {"kind": "functional", "column": "tier", "of": "smoker", "mapping": {True: 3, False: 1}},
        {"kind": "combinations", "columns": ["tier", "ill"], "forbidden": [[3, True]]},
    )

    def always_ill(codes: Codes, generator: np.random.Generator) -> Codes:
        labelled = codes.copy()
        labelled[:, schema.target_index] = 1
        return labelled

    made = source(schema, relabel=always_ill, labels=(schema.target,))
    frame, _ = kept(made, rules, 2000, np.random.default_rng(0))
    assert not rules.broken(frame).any()


def test_costs_of_blocks_add_up() -> None:
    _, schema, rules = example(*[{"kind": "inequality", "holds": ["age", ">=", 50]}])
    parts = [kept(source(schema), rules, 300, np.random.default_rng(seed))[1] for seed in (0, 1)]
    both: Cost = parts[0] + parts[1]
    assert both.rows == 600
    assert both.broken.tolist() == [sum(int(part.broken[0]) for part in parts)]
    document = both.document(rules, schema.names)
    moved = document["distances"]["age"]
    assert moved == pytest.approx(document["constraints"][0]["broken_as_drawn"], abs=0.1)
    assert document["distances"]["tier"] < 0.1


@pytest.mark.parametrize("kind", ["independent", "mixture"])
def test_conditions_and_rules_hold_together(kind: str) -> None:
    from synth.constraints.conditions import Condition

    module: Any = test_dpdsyn if kind == "independent" else test_dpdsyn_mixture
    model: TabularModel = module.fit({} if kind == "independent" else test_dpdsyn_mixture.MIXTURE, 1600)[0]
    _, _, rules = example(
        {"kind": "functional", "column": "tier", "of": "smoker", "mapping": {True: 3, False: 1}},
        {"kind": "inequality", "holds": ["income", "<=", 30000], "where": {"city": ["Bern"]}},
        {"kind": "rounding", "column": "income", "multiple_of": 100},
    )
    where = Condition.parse(["tier = 3", "income between 20050 and 40000", "ill = true"], model.schema)
    frame = pd.concat(model.frames(2000, 3, Wanted(rules, where)), ignore_index=True)
    assert len(frame) == 2000
    assert where.holds(frame, model.schema).all()
    assert not rules.broken(frame).any()
    assert frame["smoker"].all()
