"""One small release, made by the real method from random rows; its bundle; and its published copy."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from synth import accounting
from synth.accounting import RenyiFilter
from synth.contract import Contract, parse_contract
from synth.events import DiscreteGaussian
from synth.guard import Sealed
from synth.methods.base import Model, RunOnce, synthesizer
from synth.plan import Demand, ReleasePlan, integer_queries, make_plan
from synth.progress import silent
from synth.quality import subgroups
from synth.quality.learners import Constant
from synth.quality.results import Judgement, Measurement, PairDistances, Subgroups
from synth.records import HOLDOUT, TRAIN, Records
from synth.release.bundle import build_bundle
from synth.release.claim import composed, filter_share
from synth.release.facts import BudgetFacts, PairCounts, ReleaseFacts
from synth.release.manifest import build_manifest, with_approval
from synth.release.publish import publish_bundle
from synth.schema import Codes, Schema
from tests.sealed import own_units, sealed_codes, uncharged

ODD = "<b>odd|one</b> $x$"  # markup, a table's bar and mathematics in one category
CONTRACT = f"""
version: 1
dataset:
  name: visits
  title: Visits to <i>the practice</i>
  owner: The practice
  description: One row a patient.
  licence: CC BY 4.0
source: {{uri: /nowhere/visits.csv}}
privacy:
  unit: {{column: patient}}
  epsilon: 2.0
  delta: 1.0e-5
  approximate_units: 2000
schema:
  site: {{type: categorical, categories: [north, south, "{ODD}"]}}
  plan: {{type: categorical, categories: [30, 10, 20], nullable: true}}
  smoker: {{type: boolean, nullable: true}}
  age: {{type: number, min: 0, max: 100, decimals: 1}}
  visits: {{type: integer, min: 0, max: 30, nullable: true, description: visits in a year}}
  ill: {{type: boolean}}
expectations:
  - {{type: expect_column_values_to_be_between, kwargs: {{column: age, min_value: 0, max_value: 100}}, tolerance: 0.01}}
task: {{target: ill, kind: binary}}
method: {{options: {{structure: independent, batch_size: 256, steps: 40}}}}
rows: 1500
quality: {{min_accuracy_gradient_boosting: 0.5, subgroups: [site, smoker], min_subgroup_accuracy: 0.3}}
approval: {{mode: automatic}}
publish: {{uri: /nowhere/bucket}}
"""
VERSION = "v0a1b2c3d4e5f"
AT = "2025-03-01T12:00:00+00:00"


@dataclass(frozen=True)
class Release:
    """A release that was built: facts, frames, folder, manifest."""

    facts: ReleaseFacts
    frames: tuple[pd.DataFrame, ...]
    folder: Path
    manifest: Mapping[str, Any]

    def publish(self, uri: str, manifest: Mapping[str, Any] | None = None) -> str:
        """Publish to a bucket."""
        return publish_bundle(self.folder, uri, "visits", VERSION, manifest or self.manifest)


def approved_manifest(folder: Path, artifact: str) -> dict[str, Any]:
    """The manifest of a folder with an approval of ``artifact``."""
    manifest = build_manifest(folder, dataset="visits", version=VERSION, created_at=AT)
    return with_approval(manifest, mode="human", by="ada", at=AT, artifact=artifact)


@pytest.fixture(scope="session")
def contract() -> Contract:
    return parse_contract(CONTRACT)


@pytest.fixture(scope="session")
def mixture_contract() -> Contract:
    options = "{structure: mixture, components: 20}"
    return parse_contract(CONTRACT.replace("{structure: independent, batch_size: 256, steps: 40}", options))


@pytest.fixture(scope="session")
def made(contract: Contract) -> tuple[ReleaseFacts, tuple[pd.DataFrame, ...]]:
    return _made(contract, died="calibration")


@pytest.fixture(scope="session")
def made_mixture(mixture_contract: Contract) -> tuple[ReleaseFacts, tuple[pd.DataFrame, ...]]:
    return _made(mixture_contract, died="label_correction")


def _made(contract: Contract, died: str) -> tuple[ReleaseFacts, tuple[pd.DataFrame, ...]]:
    """:param died: the mechanism of which a first attempt died."""
    schema, method = Schema.from_contract(contract), synthesizer(contract.method)
    validation = Demand("validation", (TRAIN, HOLDOUT), 0.03, integer_queries(DiscreteGaussian(1.0, 1, 2)), "counts")
    gate = [Demand("gate_outcomes", (HOLDOUT,), 1.0, integer_queries(DiscreteGaussian(1.0)), "right or wrong")]
    gate += subgroups.demands(contract, schema)
    plan = make_plan(contract, [validation, *method.demands(contract, schema, 1600)], gate, 0.2)
    generator = np.random.default_rng(0)
    sizes = [column.size if column.nullable else column.cells for column in schema.columns]
    codes = np.column_stack([generator.integers(0, size, 1600) for size in sizes]).astype(np.int32)
    outputs: dict[str, Any] = {}

    def once(name: str, compute: Any) -> Any:
        return outputs.setdefault(name, uncharged(name, compute))

    model = method.fit(sealed_codes(codes), contract, schema, plan, once, silent)
    frames = tuple(model.frames(contract.rows, 7))
    released = np.concatenate([block for block, _ in model.codes(contract.rows, 7)])  # type: ignore[attr-defined]
    found = _tried_on(codes, contract, schema, plan, once, model)
    names, columns = schema.names, schema.columns
    attempts = {mechanism.name: 1 for mechanism in plan.mechanisms} | {died: 2}
    ran = composed([{**m.document(), "attempts": attempts[m.name]} for m in plan.mechanisms], "attempts")
    renyi_filter = RenyiFilter.for_budget(8.0, 1e-5)
    counts = np.split(outputs["marginals"]["counts"], np.cumsum([column.size for column in columns])[:-1])
    facts = ReleaseFacts(
        contract=contract,
        schema=schema,
        plan=plan,
        version=VERSION,
        created_at=AT,
        code_version="0.0.0",
        rows=contract.rows,
        sampling_seed=7,
        training_devices=() if "pairs" in outputs else ("cpu",),
        budget=BudgetFacts(
            policy="patients",
            policy_epsilon=8.0,
            policy_delta=1e-5,
            epsilon_release=plan.charged_epsilon(attempts),
            epsilon_all_releases=accounting.epsilon(ran[TRAIN] * 2, 1e-5),
            share_spent=2 * filter_share(ran, renyi_filter),
            attempts=attempts,
            filter_order=renyi_filter.order,
            ledger_head=(41, "9f" * 32),
        ),
        judgements=(Judgement("expect_column_values_to_be_between", ("age",), 0.01, True),),
        pairs=PairDistances(schema.names, (0.1,) * math.comb(len(schema.names), 2), 0.01),
        measurements=(
            Measurement("accuracy", "Accuracy", 0.62, 0.01, 0.58, 0.66, 0.52, "commonest label", 0.5, "higher"),
            *subgroups.measurements(found, contract.quality),
        ),
        subgroups=found,
        units_estimate=(2011, 20.5),
        marginals=dict(zip(names, counts, strict=True)),
        marginal_sigma=plan.counts("marginals").sigma,
        distributions=dict(zip(names, model.distributions, strict=True)),  # type: ignore[attr-defined]
        synthetic_counts={c.name: np.bincount(released[:, i], minlength=c.size) for i, c in enumerate(columns)},
        method_facts=model.facts(),
        pair_counts=_pair_counts(model, schema, outputs, plan),
    )
    return facts, frames


def _tried_on(
    codes: Codes, contract: Contract, schema: Schema, plan: ReleasePlan, once: RunOnce, model: Model
) -> tuple[Subgroups, ...]:
    """Subgroups of a holdout whose first site is nearly empty."""
    holdout = codes[(codes[:, 0] > 0) | (np.arange(len(codes)) < 20)]
    parsed = schema.decode(holdout, np.random.default_rng(0)).astype({"smoker": float, "ill": float})
    parsed["site"] = parsed["site"].astype(object)
    always = Constant(1)
    return subgroups.measure(
        contract=contract,
        schema=schema,
        plan=plan,
        once=once,
        learners={schema.target: (always, always)},
        label_model=model.predict,
        holdout=Sealed(Records(parsed, own_units(len(parsed))), (HOLDOUT,)),
    )


def _pair_counts(model: Model, schema: Schema, outputs: Mapping[str, Any], plan: ReleasePlan) -> PairCounts | None:
    if "pairs" not in outputs:
        return None
    groups = dict(zip(schema.names, schema.split_by_column(model.arrays()["groups"]), strict=True))
    return PairCounts(groups, outputs["pairs"]["counts"], plan.counts("pairs").sigma)


@pytest.fixture(scope="session")
def release(made: tuple[ReleaseFacts, tuple[pd.DataFrame, ...]], tmp_path_factory: pytest.TempPathFactory) -> Release:
    return _built(made, tmp_path_factory)


@pytest.fixture(scope="session")
def mixture_release(
    made_mixture: tuple[ReleaseFacts, tuple[pd.DataFrame, ...]], tmp_path_factory: pytest.TempPathFactory
) -> Release:
    return _built(made_mixture, tmp_path_factory)


def _built(made: tuple[ReleaseFacts, tuple[pd.DataFrame, ...]], tmp_path_factory: pytest.TempPathFactory) -> Release:
    facts, frames = made
    folder = tmp_path_factory.mktemp("release") / "bundle"
    artifact = build_bundle(folder, facts, iter(frames))
    return Release(facts, frames, folder, approved_manifest(folder, artifact))


@pytest.fixture(scope="session")
def published_once(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(release.publish(str(tmp_path_factory.mktemp("bucket"))).removeprefix("file://"))


@pytest.fixture
def published_mixture(mixture_release: Release, tmp_path: Path) -> Path:
    """The same of the structure mixture."""
    return Path(mixture_release.publish(str(tmp_path / "bucket")).removeprefix("file://"))


@pytest.fixture
def published(published_once: Path, tmp_path: Path) -> Path:
    """A published release that the test may damage."""
    return Path(shutil.copytree(published_once, tmp_path / VERSION))
