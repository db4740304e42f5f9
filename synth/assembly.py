"""What a release says about itself, gathered from a run's workspace and the ledger.

Reads outputs of charged mechanisms, public facts and the ledger; never private rows.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from synth import __version__, validation
from synth.accounting import ATTO, epsilon
from synth.constraints.repair import Rules
from synth.device import DEVICES, training_device
from synth.errors import TamperedArtifact
from synth.events import Event, PoissonGaussian, event_from_document
from synth.measurements import PAIRS
from synth.methods.base import Model
from synth.quality.results import Judgement, Measurement, PairDistances, Subgroups
from synth.records import HOLDOUT, TRAIN
from synth.release.facts import BudgetFacts, PairCounts, ReleaseFacts
from synth.run import Run
from synth.schema import Codes
from synth.unsafe import seed_of

_TRAINING = "public/training-{}.json"


def synthetic_frames(run: Run) -> Iterator[pd.DataFrame]:
    """The released rows in chunks, as `generate` left them."""
    for part in range(run.workspace.read_json("public/generation.json")["parts"]):
        yield run.workspace.read_frame(f"dp/rows-{part:06d}.parquet")


def parsed_and_codes(run: Run, frame: pd.DataFrame) -> tuple[pd.DataFrame, Codes]:
    """Released rows through the same door as private ones."""
    parsed = run.schema.parse(pa.Table.from_pandas(frame, preserve_index=False))
    return parsed, run.schema.encode(parsed)


def rules_of(run: Run) -> Rules:
    """The contract's constraints as rules that rows keep."""
    return Rules(run.contract.constraints, run.contract.columns)


def finished_model(run: Run) -> Model:
    """The model that training left.

    :raises TamperedArtifact: if it was fitted for another contract.
    """
    if run.workspace.read_json("dp/model.json") != model_facts(run):
        raise TamperedArtifact(f"run {run.name!r}: the model was not fitted for this contract; start a new run")
    return run.method.restore(run.workspace.read_tensors("dp/model.safetensors"), run.contract, run.schema)


def distributions(run: Run) -> list[npt.NDArray[np.float64]]:
    """The released marginals of the model, one a column."""
    return run.schema.split_by_column(run.workspace.read_tensors("dp/model.safetensors")["distributions"])


def model_facts(run: Run) -> dict[str, Any]:
    """What the tensors of a model mean: its method, options and columns."""
    return {
        "format": 1,
        "method": run.contract.method.model_dump(mode="json"),
        "targets": list(run.schema.targets),
        "columns": [{"name": c.name, "kind": c.kind, "codes": c.size} for c in run.schema.columns],
    }


def release_facts(
    run: Run, measurements: tuple[Measurement, ...], pairs: PairDistances, subgroups: tuple[Subgroups, ...] = ()
) -> ReleaseFacts:
    """Everything that the release says about itself."""
    workspace, plan, schema = run.workspace, run.plan, run.schema
    if not workspace.exists("public/release.json"):
        now = datetime.now(UTC)
        version = f"{now:%Y%m%d}-{secrets.token_hex(6)}"
        workspace.write_json(
            "public/release.json", {"version": version, "created_at": now.isoformat(timespec="seconds")}
        )
    release = workspace.read_json("public/release.json")
    validation_event = plan.counts("validation")
    noisy = workspace.read_arrays("dp/validation.npz")["counts"]
    marginals = schema.split_by_column(workspace.read_arrays("dp/marginals.npz")["counts"])
    synthetic = [np.zeros(column.size, np.int64) for column in schema.columns]
    for frame in synthetic_frames(run):
        codes = parsed_and_codes(run, frame)[1]
        for i, column in enumerate(schema.columns):
            synthetic[i] += np.bincount(codes[:, i], minlength=column.size)
    judgements: tuple[Judgement, ...] = validation.judge(noisy, run.contract, validation_event)
    generation = workspace.read_json("public/generation.json")
    return ReleaseFacts(
        contract=run.contract,
        schema=schema,
        plan=plan,
        version=release["version"],
        created_at=release["created_at"],
        code_version=__version__,
        rows=run.contract.rows,
        sampling_seed=generation["seed"],
        training_devices=training_devices(run),
        unsafe_seed=seed_of(run),
        budget=_budget_facts(run),
        judgements=judgements,
        measurements=measurements,
        pairs=pairs,
        subgroups=subgroups,
        units_estimate=(int(noisy[0]), validation_event.sigma),
        marginals=dict(zip(schema.names, marginals, strict=True)),
        marginal_sigma=plan.counts("marginals").sigma,
        distributions=dict(zip(schema.names, distributions(run), strict=True)),
        synthetic_counts=dict(zip(schema.names, synthetic, strict=True)),
        method_facts=finished_model(run).facts(),
        pair_counts=_pair_counts(run),
        constraint_cost=generation.get("constraints"),
    )


def record_training_device(run: Run) -> None:
    """Enter where an attempt at training is about to draw noise. Attempts on one kind of device are one entry.

    Only DP-SGD draws where it trains; for a method without it there is nothing to tell.
    """
    if not _trains_with_noise(run):
        return
    device = training_device().type
    run.workspace.write_json(_TRAINING.format(device), {"device": device})


def training_devices(run: Run) -> tuple[str, ...]:
    """Every kind of device that an attempt at training drew noise on; none for a method that draws none there.

    :raises TamperedArtifact: if none is known of DP-SGD, for then nothing true could be said of its noise.
    """
    if not _trains_with_noise(run):
        return ()
    known = tuple(device for device in DEVICES if run.workspace.exists(_TRAINING.format(device)))
    if not known:
        raise TamperedArtifact(
            f"run {run.name!r}: nothing tells on which kind of device training ran, which is entered before it starts; "
            "settle the run and start a new one"
        )
    return tuple(run.workspace.read_json(_TRAINING.format(device))["device"] for device in known)


def _trains_with_noise(run: Run) -> bool:
    return any(isinstance(mechanism.event, PoissonGaussian) for mechanism in run.plan.mechanisms)


def _pair_counts(run: Run) -> PairCounts | None:
    if all(mechanism.name != PAIRS for mechanism in run.plan.mechanisms):
        return None
    groups = run.schema.split_by_column(run.workspace.read_tensors("dp/model.safetensors")["groups"])
    counts = run.workspace.read_arrays("dp/pairs.npz")["counts"]
    return PairCounts(dict(zip(run.schema.names, groups, strict=True)), counts, run.plan.counts(PAIRS).sigma)


def _budget_facts(run: Run) -> BudgetFacts:
    """From the ledger, written once so that a rebuilt folder says the same."""
    if not run.workspace.exists("public/budget.json"):
        policy = run.registered.policy
        attempts = run.ledger.attempts(run.policy_name, run.name)
        balance = run.ledger.balance(run.policy_name, run.plan.window)
        head = run.ledger.head(run.policy_name)
        run.workspace.write_json(
            "public/budget.json",
            {
                "policy": policy.name,
                "policy_epsilon": policy.epsilon,
                "policy_delta": policy.delta,
                "epsilon_release": run.plan.charged_epsilon(attempts),
                "epsilon_all_releases": epsilon_of_policy(run),
                "policy_selection_delta": policy.selection_delta or 0.0,
                "selection_delta_spent": balance.delta_held / ATTO,
                "share_spent": balance.total / balance.capacity,
                "attempts": attempts,
                "filter_order": run.registered.filter.order,
                "ledger_head": [head.sequence, head.digest],
            },
        )
    facts = run.workspace.read_json("public/budget.json")
    return BudgetFacts(**{**facts, "ledger_head": tuple(facts["ledger_head"])})


def epsilon_of_policy(run: Run) -> float:
    """ε at the policy's δ, by PLD, of every mechanism that was started under the policy, and those that it succeeded.

    In the window of this run, where the policy has windows.

    Per split the worse branch; splits are composed, because a person may be in either branch of each.
    """
    ledger, policy = run.ledger, run.registered.policy
    worst: list[Event] = []
    by_split: dict[str, dict[str, list[Event]]] = {}
    runs = ((each, summary) for each in ledger.lineage(policy.name) for summary in ledger.runs(each))
    for name, summary in runs:
        if summary.details["plan"].get("window", "") != run.plan.window:
            continue
        attempts = ledger.attempts(name, summary.run)
        split = summary.run if run.registered.units_by_content(run.contract) else summary.split_id
        branches = by_split.setdefault(split, {TRAIN: [], HOLDOUT: []})
        for mechanism in summary.details["plan"]["mechanisms"]:
            event = event_from_document(mechanism["event"])
            for branch in mechanism["branches"]:
                branches[branch] += [event] * attempts[mechanism["name"]]
    for branches in by_split.values():
        worst += max(branches.values(), key=lambda events: epsilon(list(events), policy.delta))
    return epsilon(worst, policy.delta)
