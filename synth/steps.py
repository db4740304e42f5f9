"""The steps of the workflow, as plain functions of a run.

    preflight → allocate → validate → train → generate → check → approve → publish        (settle: always)

Each reads its inputs from workspace and ledger, leaves its outputs there, and returns facts that anyone may see. Each
can be called again at any time: what was committed is found and returned, never made a second time. Operators, the
command line and notebooks call only these.

What a step lets out, errors included, is decided in :mod:`synth.boundary`.
"""

from __future__ import annotations

import errno
import secrets
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from synth import validation
from synth.accounting import delta_cost
from synth.approval import approval_of, decide_by_conditions, decision_of, passed_gate, record_request
from synth.assembly import (
    distributions,
    finished_model,
    model_facts,
    parsed_and_codes,
    record_training_device,
    release_facts,
    rules_of,
    synthetic_frames,
)
from synth.boundary import Facts, Step, step
from synth.constraints.sampling import Wanted
from synth.constraints.witness import require_witness
from synth.continuity import note_head, verify_ledger
from synth.errors import (
    NotApproved,
    QualityRejected,
    ReservationReleased,
    TamperedArtifact,
    ValidationFailed,
)
from synth.guard import Sealed, Spend
from synth.housekeeping import end_run
from synth.ledger import Charge
from synth.methods.base import require_packages
from synth.officer import policy_for
from synth.partition_selection import CATEGORIES, select
from synth.plan import ReleasePlan
from synth.quality import gate, subgroups
from synth.quality.learners import train_learners
from synth.quality.results import Measurement, PairDistances, Subgroups
from synth.randomness import random_words
from synth.records import HOLDOUT, TRAIN, Records
from synth.release.bundle import build_bundle
from synth.release.facts import ReleaseFacts
from synth.release.manifest import artifact_digest, build_manifest, list_files, manifest_digest, with_approval
from synth.release.publish import publish_bundle
from synth.release.stamp import stamp
from synth.run import Run, pace_of, plan_release, window_to_release
from synth.source import Snapshot, check_columns, read_snapshot
from synth.unsafe import seed_of, split_of

_SNAPSHOT = "private/snapshot.parquet"
_OWNER, _HOLDOUT = "sluice unit", "sluice holdout"
_BUNDLE = "bundle"


@step
def preflight(run: Run) -> Facts:
    """Check contract, policy, source columns and expectations; reads no row and spends nothing."""
    registered = run.registered
    registered.split_key(run.settings.keys)
    require_packages(run.contract)
    check_columns(run.contract)
    validation.check_expectations(run.contract, run.schema)
    require_witness(run.contract, run.schema)
    # A workspace that cannot be opened is found before budget is reserved for it.
    protection = run.workspace.protection
    return {"policy": registered.policy.name, "dataset": run.contract.dataset.name, "workspace": protection}


@step
def allocate(run: Run) -> Facts:
    """Freeze the plan and reserve its budget in the ledger.

    :raises TamperedArtifact: if the ledger's history does not bear out the balance that the budget is taken from.
    """
    workspace, registered = run.workspace, run.registered
    verify_ledger(run)
    if not workspace.exists("public/plan.json"):
        window = window_to_release(run.contract)
        pace = pace_of(registered, run.ledger, window)
        plan = plan_release(run.contract, registered.policy.holdout_fraction, pace=pace, window=window)
        workspace.write_json("public/plan.json", plan.document())
    plan = ReleasePlan.from_document(workspace.read_json("public/plan.json"))
    seed = seed_of(run)
    charges = [
        Charge(m.name, m.branches, registered.filter.cost(m.event), delta_cost(m.event)) for m in plan.mechanisms
    ]
    run.ledger.reserve(
        run.policy_name,
        run.name,
        plan_digest=plan.digest(),
        split_id=split_of(run, seed)[1],
        max_attempts=plan.max_attempts,
        charges=charges,
        window=plan.window,
        horizon=registered.policy.horizon,
        units_may_move=registered.units_by_content(run.contract),
        details={"dataset": run.contract.dataset.name, "plan": plan.document()} | stamp(seed),
    )
    note_head(run)
    record_request(run)
    cost = max(sum(c.cost for c in charges if branch in c.branches) for branch in (TRAIN, HOLDOUT))
    return {
        "epsilon": round(run.plan.epsilon, 4),
        "delta": run.plan.delta,
        "share_of_policy_budget": round(cost / registered.filter.capacity, 4),
    }


@step
def validate(run: Run) -> Facts:
    """Take the snapshot, and judge the declared expectations by charged counts.

    :raises ValidationFailed: naming the expectations that were judged violated.
    """
    event = run.plan.counts("validation")
    if not run.workspace.exists("dp/validation.npz"):
        everyone = _rows(run, TRAIN, HOLDOUT)  # now: a source that cannot be read must not cost an attempt

        def measure(spend: Spend) -> dict[str, Any]:
            return {"counts": validation.measure(everyone.open(spend), run.contract, event)}

        run.once("validation", measure)
    noisy = run.committed("validation")["counts"]
    judgements = validation.judge(noisy, run.contract, event)
    failed = [f"{j.expectation} on {', '.join(j.columns)}" for j in judgements if not j.passed]
    if failed:
        raise ValidationFailed(
            f"judged violated beyond tolerance: {'; '.join(failed)}. The owner can see exact results where the data "
            "is; mend the source or declare a higher tolerance, and start a new run"
        )
    return {"expectations": len(judgements), "judged": "pass"}


@step
def train(run: Run) -> Facts:
    """Fit the synthesizer through charged mechanisms."""
    if not run.workspace.exists("dp/model.safetensors"):
        record_training_device(run)  # before the mechanism starts: an attempt that dies may have been the charged one
        rows = _rows(run, TRAIN)
        if run.schema.awaits_selection:
            event = run.plan.thresholds(CATEGORIES)
            run.once(CATEGORIES, lambda spend: select(rows.open(spend), run.contract, event))
        schema = run.schema
        records = rows.then(lambda opened: opened.encoded(schema.encode))
        model = run.method.fit(records, run.contract, schema, run.plan, run.once, run.progress)
        run.workspace.write_json("dp/model.json", model_facts(run))
        run.workspace.write_tensors("dp/model.safetensors", model.arrays())
    return {
        "method": run.contract.method.runs,
        "mechanisms": [m.name for m in run.plan.mechanisms if m.branches == (TRAIN,)],
    }


@step
def generate(run: Run) -> Facts:
    """Draw the declared number of rows from the finished model, all of which keep the contract's constraints.

    Costs no privacy.
    """
    workspace, rows = run.workspace, run.contract.rows
    if not workspace.exists("public/generation.json"):
        if not workspace.exists("public/sampling_seed.json"):
            workspace.write_json("public/sampling_seed.json", int(random_words(1)[0] >> np.uint64(11)))
        seed, parts, done = workspace.read_json("public/sampling_seed.json"), 0, 0
        rules, cost = rules_of(run), None
        for frame, added in finished_model(run).drawn(rows, seed, Wanted(rules)):
            workspace.write_frame(f"dp/rows-{parts:06d}.parquet", run.schema.with_identifiers(frame, done, seed))
            parts, done, cost = parts + 1, done + len(frame), added if cost is None or added is None else cost + added
            run.progress("generate", done, rows)
        kept = {"constraints": cost.document(rules, run.schema.names)} if cost is not None else {}
        workspace.write_json("public/generation.json", {"rows": rows, "parts": parts, "seed": seed, **kept})
    return {"rows": rows}


@step
def check(run: Run) -> Facts:
    """Measure quality on the holdout under DP, judge it, and build the release folder that may be approved.

    :raises QualityRejected: naming what was missed.
    """
    recorded = run.ledger.find(run.policy_name, run.name, "gate")
    if recorded is None:
        facts = release_facts(run, *_measure(run))
        passed = all(m.passed for m in facts.measurements)
        digest = _bundle(run, facts) if passed else None
        recorded = run.ledger.record(
            run.policy_name,
            run.name,
            "gate",
            {
                "passed": passed,
                "artifact": digest,
                "version": facts.version,
                "rows": facts.rows,
                "epsilon": facts.budget.epsilon_release,
                "attempts": dict(facts.budget.attempts),
                # With the seed anyone could take the noise off again, so of a seeded run none is told.
                "measurements": [m.document() for m in facts.measurements if facts.unsafe_seed is None],
                **stamp(facts.unsafe_seed),
            },
        )
    run.workspace.erase_private()  # nothing after this step needs a row, and a person may take days to decide
    measurements = [Measurement.from_document(document) for document in recorded.payload["measurements"]]
    if not recorded.payload["passed"]:
        missed = "; ".join(
            f"{m.title} is {m.value:.3f}, {'at least' if m.better == 'higher' else 'at most'} {m.threshold:g} was asked"
            for m in measurements
            if not m.passed
        )
        raise QualityRejected(
            f"the release does not reach its declared quality: {missed}. Nothing is published, and what was "
            "measured stays spent"
        )
    if seed_of(run) is None:
        _show_report(run)
    return {
        "artifact": recorded.payload["artifact"],
        "quality": {m.name: round(m.value, 4) for m in measurements},
        "epsilon": recorded.payload["epsilon"],
    }


@step
def approve(run: Run) -> Facts:
    """Decide by the contract's stated conditions, or find a person's decision about exactly this artifact.

    :raises AwaitingApproval: while a person has not decided.
    :raises NotApproved: after a refusal, or where the conditions do not hold.
    """
    _ = run.plan  # refuses a contract that is not the one that was reserved
    if decision_of(run) is None and run.contract.approval.mode == "automatic":
        decide_by_conditions(run)
    decision = approval_of(run)
    return {"approved_by": decision["by"], "artifact": decision["artifact"]}


@step
def publish(run: Run) -> Facts:
    """Publish exactly the artifact that passed the gate and was approved; publishing twice changes nothing.

    :raises NotApproved: if gate, decision and folder do not all name the same artifact.
    :raises TamperedArtifact: if the ledger's history does not bear out its entries.
    """
    plan, judged, decision = run.plan, passed_gate(run), approval_of(run)
    if run.ledger.attempts(run.policy_name, run.name) != judged["attempts"]:
        raise NotApproved(
            f"run {run.name!r}: another attempt was charged after its statement was written, which would understate "
            "the cost; start a new run"
        )
    folder, dataset, version = run.workspace.folder(_BUNDLE), run.contract.dataset.name, judged["version"]
    created_at = run.workspace.read_json("public/release.json")["created_at"]
    manifest = build_manifest(folder, dataset=dataset, version=version, created_at=created_at)
    if not decision["artifact"] == judged["artifact"] == artifact_digest(manifest["files"]):
        raise NotApproved(
            f"run {run.name!r}: the folder to publish is not the artifact that passed the gate and was approved"
        )
    verify_ledger(run)
    approved = with_approval(manifest, **_approval_it_goes_out_with(run, decision), artifact=decision["artifact"])
    uri = publish_bundle(folder, run.contract.publish.uri, dataset, version, approved, run.storage_options)
    fact = {"uri": uri, "version": version, "artifact": decision["artifact"], "epsilon": judged["epsilon"]}
    # The digest of the whole manifest lets anyone with the ledger tell a forged release that is consistent in itself.
    run.ledger.record(run.policy_name, run.name, "published", {**fact, "manifest": manifest_digest(approved)})
    return {**fact, "rows": run.contract.rows, "delta": plan.delta}


@step
def settle(run: Run) -> Facts:
    """Give back what never started, and erase the private rows of the run; started mechanisms stay spent.

    From here on no mechanism of the run can start and its source is not read again.
    """
    policy = policy_for(run.ledger, run.contract).policy.name
    freed = end_run(run.ledger, policy, run.name)
    run.erase_private()
    note_head(run)
    return {"never_started": freed}


BEFORE_APPROVAL: tuple[Step, ...] = (preflight, allocate, validate, train, generate, check)
STEPS: tuple[Step, ...] = (*BEFORE_APPROVAL, approve, publish)


def _show_report(run: Run) -> None:
    """Lay a copy of the report where approvers find it without access to the workspace."""
    place = run.settings.report_of(run.contract.dataset.name, run.run_id)
    if place is not None and not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        half = place.with_suffix(f".{secrets.token_hex(4)}")
        try:
            shutil.copyfile(run.workspace.folder(_BUNDLE) / "quality_report.html", half)
            half.replace(place)
        finally:
            half.unlink(missing_ok=True)


def _approval_it_goes_out_with(run: Run, decision: Mapping[str, Any]) -> dict[str, Any]:
    """Who approved what is about to be in the bucket, entered before the first byte is.

    An attempt that dies may leave a whole release behind. What may be out keeps the approval that let it out, whatever
    was decided again since.

    :raises NotApproved: if the approval was withdrawn in this moment.
    """
    recorded = run.ledger.find(run.policy_name, run.name, "publishing")
    if recorded is None:
        approval = {key: decision[key] for key in ("mode", "by", "at")}
        recorded = run.ledger.record(run.policy_name, run.name, "publishing", approval)
        approval_of(run)
    return recorded.payload


def _rows(run: Run, *branches: str) -> Sealed[Records]:
    """The private rows of one branch, or of both, under seal.

    Read from the source on first use and never again; not after the run was settled.
    """
    workspace = run.workspace
    _refuse_settled(run)
    if not workspace.exists(_SNAPSHOT):
        taken = read_snapshot(
            run.contract,
            run.schema,
            split_key=split_of(run, seed_of(run))[0],
            holdout_fraction=run.plan.holdout_fraction,
            window=run.plan.window,
        )
        workspace.write_frame(_SNAPSHOT, taken.frame.assign(**{_OWNER: taken.owners, _HOLDOUT: taken.holdout}))
        _refuse_settled(run)  # a read that was under way while the run was settled must not leave its rows behind
    frame = workspace.read_frame(_SNAPSHOT)
    texts = [column.name for column in run.schema.columns if not column.parses_to_float]
    frame = frame.astype(dict.fromkeys(texts, object))  # a type inferred by the file format would depend on the rows
    owners, holdout = frame.pop(_OWNER).to_numpy(dtype=np.int64), frame.pop(_HOLDOUT).to_numpy(dtype=bool)
    return Snapshot(frame, owners, holdout).sealed(*branches)


def _refuse_settled(run: Run) -> None:
    if run.ledger.find(run.policy_name, run.name, "settled") is not None:
        run.workspace.erase_private()
        raise ReservationReleased(f"run {run.name!r} was settled and its private rows are erased; start a new run")


def _measure(run: Run) -> tuple[tuple[Measurement, ...], PairDistances, tuple[Subgroups, ...]]:
    parsed, codes = parsed_and_codes(run, next(synthetic_frames(run)))
    tried: dict[str, Any] = {
        "contract": run.contract,
        "schema": run.schema,
        "plan": run.plan,
        "once": run.once,
        "learners": {target: train_learners(run.schema, parsed, codes, target) for target in run.schema.targets},
        "label_model": finished_model(run).predict,
        "holdout": _rows(run, HOLDOUT),
    }
    measured, pairs = gate.measure(**tried, synthetic_codes=codes, distributions=distributions(run))
    found = subgroups.measure(**tried)
    return (*measured, *subgroups.measurements(found, run.contract.quality)), pairs, found


def _bundle(run: Run, facts: ReleaseFacts) -> str:
    """Build the release folder beside its place and move it there whole; the first one stays.

    The same facts give the same files, so an attempt that comes late changes nothing, wherever it dies: what passed
    the gate meanwhile is not taken apart.

    :raises TamperedArtifact: if another folder is there.
    """
    built = run.workspace.folder(f".{_BUNDLE}-{secrets.token_hex(8)}")
    place = run.workspace.folder(_BUNDLE)
    try:
        digest = build_bundle(built, facts, synthetic_frames(run))
        run.workspace.restrict(built.name)
    except OSError:
        shutil.rmtree(built, ignore_errors=True)
        raise
    try:
        built.rename(place)  # replaces an empty folder only
    except OSError as error:
        shutil.rmtree(built, ignore_errors=True)
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        if artifact_digest(list_files(place)) != digest:
            raise TamperedArtifact(
                f"run {run.name!r}: its release folder is not what this version builds from its outputs; nothing of "
                "this run may be published: start a new run and find out who can write to the workspace"
            ) from None
    return digest
