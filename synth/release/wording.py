"""What a statement says in words. Each sentence is a claim that the code has to bear out."""

from __future__ import annotations

from typing import Any

from synth.constraints.keeping import TRIES
from synth.contract import Contract, UnitColumn
from synth.release import method_words
from synth.release.rendering import number, percent, rounded_up

BRANCHES = (
    "A unit is in one branch only: the training branch, which the model learns from, or the holdout, which the "
    "release is tried on. Validation sees both. A unit is therefore affected by one branch's mechanisms, and the "
    "worse of the two composed branches counts."
)
SAMPLING_SEED = (
    "Seeds the drawing of rows from the finished model. Drawn after training and independent of all noise, so "
    "publishing it costs nothing. No seed or state of the noise or of any secret choice is kept anywhere."
)
_CUMULATIVE = (
    "The policy's total (policy_epsilon, policy_delta) holds for all releases {which} together, however later ones are "
    "chosen after seeing earlier ones: a privacy filter adds up Rényi costs at one order that was fixed when the "
    "policy was registered, and refuses what would pass the total. share_spent is the part that the filter counts as "
    "used, this release included. epsilon_all_releases composes everything charged so far by privacy loss "
    "distributions at policy_delta; it is for information, the filter's total is the claim.{windows}"
)
LEDGER = (
    "The last entry of the policy's budget ledger when this statement was written. Whoever keeps the ledger can show "
    "that it still holds this entry; a copy restored from an older backup does not."
)
_PUBLIC = (
    "The following was taken as public, from the share contract, and costs nothing. The data owner vouches that none "
    "of it was read off the private table; where that is not so, the claim does not cover it. Nothing is tuned on "
    "private rows: "
)
VALIDATION = (
    "Each expectation is judged by a noisy count of violating units against its tolerance: violated, if the count is "
    "above the tolerance by more than the noise would explain in 99 of 100 cases. Verdicts are post-processing of "
    "these counts. The counts of violations are not published."
)
QUALITY = (
    "Every quality number is an output of a charged mechanism on the holdout, before selection by the gate: a release "
    "is published only if the numbers reach the contract's thresholds, so among published releases they are a little "
    "too good. Intervals are 95 %: of accuracies and errors with the sampling of the holdout, of distances, "
    "which are to this very holdout, for privacy noise alone."
)
TRUST_MODEL = {
    "model": "central, with a trusted curator",
    "text": "The data owner's worker reads the source once, into the run's private workspace, and is the only process "
    "that sees raw rows. Scheduler, metadata database, task logs, approver and bucket receive outputs of charged "
    "mechanisms and public facts only. The rows in the workspace are erased when the run is settled.",
}
AUDIT = {
    "performed": False,
    "text": "No empirical privacy audit was run on this release. The claim rests on the analysis of the mechanisms "
    "and on the correctness of the code that ran.",
}
REGISTRY = {
    "standard": "NIST SP 800-226; deployments registry, tier 3 (arXiv 2509.13509)",
    "tier_1": {
        "data_curator": "dataset.owner",
        "intended_use": "dataset.description",
        "data_product_description": "dataset.title",
        "publication_date": "release.created_at",
    },
    "tier_2": {
        "dp_flavour": "claim.flavour",
        "privacy_unit": "claim.unit",
        "privacy_loss_parameters": "claim.epsilon, claim.delta",
        "deployment_model": "trust_model.model",
    },
    "tier_3": {
        "data_domain": "columns",
        "unprotected_quantities": "public_information, not_protected",
        "privacy_unit_description": "claim.unit.text, claim.neighbouring, contribution_bound",
        "accounting_composition": "claim, mechanisms, cumulative",
        "accounting_post_processing": "post_processing",
        "implementation": "randomness, software, claim.accountant",
        "security": "trust_model, randomness, audit",
    },
}


def cumulative(window: str, set_aside: float) -> str:
    """What holds across releases.

    :param set_aside: the part of the policy's δ for selecting categories.
    """
    selection = ""
    if set_aside:
        selection = (
            " Selecting categories of open columns adds to δ whatever the noise: the policy sets "
            "policy_selection_delta of its δ aside for that, the filter lives on the rest, and the ledger adds up "
            "exactly what was charged to it or is reserved, selection_delta_spent, and refuses more."
        )
    if not window:
        return _CUMULATIVE.format(which="about the same people", windows="") + selection
    return _CUMULATIVE.format(
        which=f"of the window {window}",
        windows=selection
        + " Every window has such a total of its own: over k windows, a person present in all of them has k "
        "times the loss.",
    )


def constraints(contract: Contract) -> str:
    """What is done to keep constraints, and what that does to the rows."""
    if not contract.constraints:
        return "The contract declares none."
    return (
        "Every row keeps every constraint that the contract declares. What follows from other columns is computed, "
        f"rows that still break a constraint are drawn from the model again, up to {TRIES} times, and the few that "
        "are left are repaired to the nearest allowed values, or replaced by other rows. "
        + ("Labels of changed rows are drawn anew from the label model. " if contract.task.wanted else "")
        + "All of it is post-processing. It moves shares away from what was measured: "
        "the distances below are between the rows as the model drew them and as they are released."
    )


def public(contract: Contract) -> str:
    """What was taken as public, and on whose word."""
    return _PUBLIC + method_words.not_tuned(contract) + method_words.selected(contract)


def unit(contract: Contract, window: str) -> str:
    """For whom the guarantee is."""
    if not isinstance(contract.privacy.unit, UnitColumn):
        return (
            "One row. A person with several rows in the source is protected for each of them singly, not for all of "
            "them together: for k rows of one person the guarantee weakens to about k times epsilon, with a larger "
            "delta."
        )
    text = (
        f"Whoever one value of the source's column {contract.privacy.unit.column!r} stands for, with all of their rows"
    )
    text += f" of the window {window}." if window else "."
    if window:
        text += (
            " The budget is a fresh one for each window, so a person present in k windows has k times the loss over "
            "the releases of all of them."
        )
    if contract.privacy.null_ids == "row":
        text += (
            " A row without an id is a unit of its own: whoever has several such rows is protected for each singly, "
            "and not together with their rows under an id."
        )
    return text + " The column itself is not released."


def claim(statement: dict[str, Any], contract: Contract) -> str:
    """The claim in words and numbers."""
    numbers = statement["claim"]
    whose = "of one row" if numbers["unit"]["kind"] == "row" else "of all rows of one unit"
    whose += f" in the window {numbers['unit']['window']}" if numbers["unit"]["window"] else ""
    return (
        f"All that was published or shown about this release, but for what is listed as not protected, is the output "
        f"of a randomised process that is (ε, δ)-differentially private with ε = {rounded_up(numbers['epsilon'])} and "
        f"δ = {rounded_up(numbers['delta'])}: the presence or absence {whose} changes the probability of any outcome "
        f"by at most the factor e^ε, but for a probability of δ. δ is below 1 / "
        f"{number(contract.privacy.approximate_units)}, the declared number of units. Attempts that died are counted; "
        f"had every mechanism run {numbers['max_attempts']} times, ε would be "
        f"{rounded_up(numbers['epsilon_all_attempts'])}, which no run of this plan can pass."
    ) + (
        f" Of δ, {rounded_up(numbers['selection_delta'])} went into the selection of categories."
        if "selection_delta" in numbers
        else ""
    )


def contribution(contract: Contract) -> dict[str, Any]:
    """How much one unit can contribute, and how that is enforced."""
    if isinstance(contract.privacy.unit, UnitColumn):
        most = contract.privacy.max_records
        kept = "one is" if most == 1 else f"at most {most} are"
        text = (
            f"Of a unit's rows {kept} kept, uniformly at random, chosen by secret randomness before anything else is "
            "computed. "
        )
        if most > 1:
            text += method_words.contribution(contract)
        dropped = contract.privacy.null_ids == "drop"
        text += f"Rows without a unit id are {'dropped' if dropped else 'units of their own'}."
    else:
        text = "Each row is a unit of its own; rows of one person are not brought together and not bounded."
    if contract.privacy.window is not None:
        text += " Only rows of the released window are read any further, each by the date in its own cell."
    more = " Each cell is moved into its declared domain, or becomes null, by looking at that cell alone."
    if contract.source.file_format == "csv":
        more += (
            " The source is CSV, of which each line is a record, quoted or not, and lines that do not fit the header "
            "are dropped; a person whose text spans lines would count as several."
        )
    return {"max_records_per_unit": contract.privacy.max_records, "text": text + more}


def split(contract: Contract, holdout_fraction: float) -> dict[str, Any]:
    """How units come into branches."""
    what = "id" if isinstance(contract.privacy.unit, UnitColumn) else "row content and occurrence number"
    if contract.privacy.null_ids == "row":
        what += ", or row content and occurrence number where there is none,"
    return {
        "holdout_fraction": holdout_fraction,
        "text": f"HMAC-SHA256 of the unit's {what} under a secret key of the policy, which stays the same for the "
        f"policy's life and is not published; about {percent(holdout_fraction, 0)} of units are held out. Adding or "
        "removing a unit moves no other.",
    }


def not_protected(contract: Contract, window: str) -> list[str]:
    """What the claim does not cover."""
    rows = [
        "A person's rows taken together, if they have more than one: the unit is the row.",
    ]
    return [
        "That the dataset exists, has an owner and has these columns.",
        "The facts of the share contract: bounds, declared categories, constraints, the approximate number of units, "
        "expectations, thresholds, the number of rows that were asked for.",
        "When the run ran, how long its steps took and what resources they used, and whether a step failed.",
        "Facts about groups: differential privacy hides whether a person took part, not what holds of the people. "
        "What the release teaches about a group can be applied to its members, whether or not they took part.",
        "Anything seen by those who can read the source or the run's private workspace.",
        *([] if isinstance(contract.privacy.unit, UnitColumn) else rows),
        *([f"Rows of other windows than {window}: releases of those have a budget of their own."] if window else []),
    ]
