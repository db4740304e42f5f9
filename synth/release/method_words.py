"""What a release says of its method: one set of words for each structure, each true of that one alone."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

from synth.contract import AimOptions, Contract, IndependentOptions, MixtureOptions, MstOptions, open_columns
from synth.device import noise_source
from synth.measurements import MARGINALS, MEASUREMENTS, PAIRS
from synth.plan import Mechanism
from synth.release.table_words import TableWords, words_of

_INDEPENDENT = (
    "Every column's histogram is measured with noise and a classifier of the task's target is trained by DP-SGD. "
    "Released features are drawn from the noisy histograms, independently of each other; the label of each row is "
    "{drawn} the classifier's prediction. It follows DPDSyn (arXiv 2604.15660), but draws columns from noisy "
    "histograms where that paper shuffles private values."
)
_INDEPENDENT_FEATURES = (
    "Every column's histogram is measured with noise; released columns are drawn from the noisy histograms, "
    "independently of each other. The task has no target, so labels are not modelled."
)
_MIXTURE = (
    "Every column's histogram is measured with noise on a fine public grid, and so are the two-way tables of all pairs "
    "of columns, whose codes are joined into groups. A mixture of product distributions is fitted to these; released "
)
_MIXTURE_ALONE = "columns are drawn from it. The mixture is this program's own design."
_LABELLED = (
    "features are drawn from it. The label of each row is {drawn} a softmax regression that is fitted to the mixture"
    "{exact}. {order}Labelling drawn features by a model of the target follows DPDSyn (arXiv 2604.15660); the mixture "
    "and the regression are this program's own design."
)
_IN_ORDER = (
    "There are several targets, {names}, each with a regression of its own; labels are drawn in this order, each given "
    "the columns that are no target and the labels before it. "
)

_CONSTRAINTS = "Constraints, which are public: computed columns, rows drawn again, repaired or replaced{relabelled}."


def independent(contract: Contract) -> bool:
    """Whether features are drawn independently of each other."""
    return isinstance(contract.method.options, IndependentOptions)


def tables(contract: Contract) -> TableWords | None:
    """The words for a method without a label model; None for the others."""
    return words_of(contract.method.options)


def _labels(contract: Contract) -> str:
    options = contract.method.options
    assert isinstance(options, IndependentOptions | MixtureOptions)
    return options.labels


def method(contract: Contract) -> str:
    """The synthesizer in a few sentences."""
    if words := tables(contract):
        return words.method
    labels, targets = _labels(contract), contract.task.wanted
    if independent(contract):
        if not targets:
            return _INDEPENDENT_FEATURES
        return _INDEPENDENT.format(drawn="drawn from" if labels == "sampled" else "set to the likeliest class of")
    if not targets:
        return _MIXTURE + _MIXTURE_ALONE
    drawn = {"utility": "drawn from sharpened probabilities of", "fidelity": "drawn from the probabilities of"}
    kinds = {target.kind for target in targets}
    return _MIXTURE + _LABELLED.format(
        drawn=drawn.get(labels, "set to the likeliest class (of a number, the median) of"),
        exact=_exactly(kinds),
        order=_IN_ORDER.format(names=_names(contract)) if len(targets) > 1 else "",
    )


def _exactly(kinds: Set[str]) -> str:
    """How label models become more exact than the mixture."""
    corrected = " and corrected once by noisy sums over private rows"
    tables = "; the tables of a target of more than two classes are measured twice"
    if "multiclass" not in kinds:
        return corrected
    return (
        tables if kinds == {"multiclass"} else f"{corrected}, where the target has two classes or is a number{tables}"
    )


def _corrected(contract: Contract) -> bool:
    """Whether any label model of the mixture is corrected by noisy sums."""
    return any(target.kind != "multiclass" for target in contract.task.wanted)


def _names(contract: Contract) -> str:
    return ", ".join(f"`{target.target}`" for target in contract.task.wanted)


def not_tuned(contract: Contract) -> str:
    """What a practitioner would tune, and who set it."""
    if words := tables(contract):
        return words.not_tuned
    if independent(contract):
        if not contract.task.wanted:
            return "the method has nothing to tune."
        return "learning rate, clipping norm, batch size and number of steps are the contract's."
    return (
        f"the number of components is the contract's; the sizes of groups{',' if _corrected(contract) else ' and'} the "
        f"penalty of the fit{' and the prior of the correction' if _corrected(contract) else ''} follow from public "
        "facts and constants of the program."
    )


def selected(contract: Contract) -> str:
    """What of the columns is no public fact; empty where all of it is."""
    opened = open_columns(contract.columns)
    if not opened:
        return ""
    named = ", ".join(repr(name) for name in opened)
    return (
        f" The categories of the open columns ({named}) are not public: a charged mechanism selected them. How many "
        "there may be, and the name of the level of all other values, are the contract's."
    )


def what_is_counted(mechanism: Mechanism) -> str:
    """What a mechanism's integers are, whose sensitivity the statement tells."""
    if mechanism.name.startswith("label_correction"):
        return (
            "sums of whole-number weights, of which one row adds up to at most "
            f"{mechanism.parameters['most']} in size to each column's"
        )
    if mechanism.name == "gate_pairs":
        return f"sums of distances between counts, in {mechanism.parameters['resolution']}ths"
    if mechanism.name.startswith("gate_errors"):
        return f"sums of errors and the number of records, in {mechanism.parameters['resolution']}ths of a record"
    return "counts"


def what_is_scored(mechanism: Mechanism) -> str:
    """By what a mechanism chooses."""
    if mechanism.name == "tree":
        return "how many rows the table of a pair of columns is from that of independent columns"
    return "how many rows a table is from the model's, less what its noise amounts to, twice that for pairs"


def contribution(contract: Contract) -> str:
    """How a unit of several rows is charged."""
    most = contract.privacy.max_records
    text = f"Counts are charged for a unit that moves them by {most} in all; "
    if words := tables(contract):
        text += words.counted.format(most=most, twice=2 * most)
    elif not contract.task.wanted:
        pass
    elif independent(contract):
        text += "the sum of the gradients of a unit's rows is clipped as one; "
    elif _corrected(contract):
        text += f"sums of weights for one that moves them by {most} times what one row can; "
    return text + "a count of units counts each once. "


def randomness(contract: Contract, training_devices: Sequence[str]) -> list[dict[str, str]]:
    """Where noise and secret choices come from, and what is not claimed about them.

    :param training_devices: every kind of device that an attempt at training drew noise on.
    """
    sources = [noise_source(device) for device in training_devices]
    where = [f", attempts on {device}" for device in training_devices] if len(sources) != 1 else [""]
    system = "the operating system's cryptographic generator"
    chooses = isinstance(contract.method.options, MstOptions | AimOptions)
    if independent(contract) and contract.task.wanted:
        choices = ("Poisson batches of DP-SGD and the records kept of a unit", f"{system}; sampling rates are rounded "
                   "down to 2^-64")  # fmt: skip
    else:
        choices = ("the records kept of a unit", system)
    return [
        {
            "used_for": "noise of histograms, counts and sums" + (", and choices by score" if chooses else ""),
            "source": f"OpenDP's discrete Gaussian{' and exponential mechanism' if chooses else ''}, sampled exactly "
            "in integer arithmetic from OpenSSL's cryptographic generator, which the operating system's seeds in each "
            "process",
            "caveat": "none known of the noise; what is counted may rest on scores in floating point, whose last bits "
            "can depend on how many rows are scored at once.",
        },
        {"used_for": choices[0], "source": choices[1], "caveat": "none known"},
        *(
            {"used_for": f"noise of DP-SGD{on}", "source": noise.source, "caveat": noise.caveat}
            for noise, on in zip(sources, where, strict=True)
        ),
    ]


def post_processing(contract: Contract) -> list[str]:
    """What is done with outputs of charged mechanisms and public facts; none of it looks at private rows."""
    selection = (
        "Of the values of an open column whose noisy counts passed the threshold, those with the largest are its "
        "categories, as many as the contract allows; every other value is its level of the others."
    )
    relabelled = ", labels of changed rows drawn anew from the label model" if contract.task.wanted else ""
    return [
        *([selection] if open_columns(contract.columns) else []),
        *_steps(contract),
        "Decoding of cells: uniform inside a cell, rounded to the declared decimals.",
        *([_CONSTRAINTS.format(relabelled=relabelled)] if contract.constraints else []),
        "Verdicts on expectations; accuracies, errors, distances and intervals; the gate's decision; all charts.",
    ]


def _steps(contract: Contract) -> Sequence[str]:
    if words := tables(contract):
        return words.post_processing
    return _independent_steps(contract) if independent(contract) else _mixture_steps(contract)


def _independent_steps(contract: Contract) -> list[str]:
    sampled = _labels(contract) == "sampled"
    projection = "Projection of noisy histograms to distributions; null gets no share where it is not allowed."
    if not contract.task.wanted:
        return [projection, "Sampling of columns, independently, from the distributions."]
    calibration = "Calibration of the classifier to the noisy histogram and to the released label share."
    labels = "Labels drawn from the calibrated probabilities." if sampled else "Labels set to the likeliest class."
    return [
        projection,
        "Features, scaling and the starting point of the classifier, from the released distributions.",
        "Exponential averaging of the classifier's weights over the steps of DP-SGD.",
        *([calibration] if sampled else []),
        "Sampling of features, independently, from the distributions. " + labels,
    ]


def _mixture_steps(contract: Contract) -> list[str]:
    kinds = {target.kind for target in contract.task.wanted}
    drawn = {
        "utility": " Labels drawn from the regression's probabilities, sharpened by a constant of the program at the "
        "released label share.",
        "fidelity": " Labels drawn from the regression's probabilities.",
        "argmax": " Labels set to the likeliest class; of a number, to the median group.",
    }
    fit = "The fit of the regression to rows drawn from the mixture; "
    if kinds - {"multiclass"}:
        fit += "its one correction, from the noisy sums and what the drawn rows would add up to; "
    return [
        "Smoothing of noisy histograms of numbers over cells that the noise cannot tell apart; projection to "
        "distributions; null gets no share where it is not allowed.",
        "Which codes are joined into groups in the tables of pairs, from the released distributions and public facts.",
        *(["The mean of tables that were measured twice, by the precision of each."] if "multiclass" in kinds else []),
        "The fit of the mixture to the noisy histograms and tables.",
        *([fit + "its offsets, from the released label share."] if kinds else []),
        "Sampling of groups from the mixture, and of a cell inside each group by its column's distribution."
        + (drawn[_labels(contract)] if kinds else ""),
    ]


def good_for(contract: Contract) -> list[str]:
    """What consumers can use the rows for, in Markdown."""
    targets, words = contract.task.wanted, tables(contract)
    label = f" The share of {_names(contract)} is the label model's and may differ more." if targets else ""
    known = [
        "Writing and testing code, queries and pipelines against data of the right shape.",
        "One feature at a time: shares, histograms, quantiles, within the noise that the quality report shows."
        + (label if words is None else ""),
    ]
    if words is not None:
        if not words.two_columns:
            return known
        known.append(words.two_columns)
    elif not independent(contract):
        held = "mixture and label model" if targets else "the mixture"
        known.append(
            "Two columns at a time: two-way tables, correlations, group means, up to the noise of their tables, the "
            f"width of their groups and what {held} could hold; the quality report has every distance."
        )
    if not targets:
        return known
    measured = "errors" if all(target.kind == "regression" for target in targets) else "accuracies"
    if len({target.kind == "regression" for target in targets}) > 1:
        measured = "accuracies and errors"
    return [*known, f"Learning to predict {_names(contract)} from the other columns, within the {measured} below."]


def not_good_for(contract: Contract) -> list[str]:
    """What they must not be used for, in Markdown."""
    targets = _names(contract)
    if words := tables(contract):
        relations, small = words.relations, words.small
    elif independent(contract):
        kept = f", only each feature's relation to {targets} as the label model learnt it" if targets else ""
        relations = (
            f"**Relations between features.** The structure is independent: pairs of features are not kept{kept}. "
            "Correlations, regressions among features and clusters are meaningless here."
        )
        small = "conditions on several features at once multiply shares that are not independent in reality."
    else:
        but_for = " (but for the declared constraints)" if contract.constraints else ""
        relations = (
            "**Relations of three and more columns.** The structure is mixture: pairs of columns were measured and are "
            "kept up to noise; three columns together are as pairs imply them, and no better. Interactions, rare "
            f"combinations and fixed rules between columns are not kept{but_for}"
            + (f", and {targets} follows the others without interactions." if targets else ".")
        )
        small = (
            "in pairs rare categories stand together, and neighbouring numbers too, so inside such a group nothing is "
            "told by another column."
        )
    return [
        relations,
        "**Looking up rows.** A row that matches a real person does so by chance, and says nothing about them.",
        f"**Small groups.** Cells with few people are mostly noise, and {small}",
        "**Decisions about people.** A model trained here should be validated on real data, by whoever may see it, "
        "before use.",
    ]


def pairs_in_the_report(contract: Contract) -> str:
    """How to read the distances of pairs."""
    if words := tables(contract):
        return words.pairs
    if independent(contract):
        return "Features of this release are independent of each other by construction, so dependent pairs stand out."
    return (
        "The release follows noisy tables of all pairs, so a pair stands out where these were too noisy or too coarse."
    )


def software(contract: Contract) -> Sequence[str]:
    """The distributions that had a part in the release."""
    fitted: tuple[str, ...] = ()
    if isinstance(contract.method.options, MstOptions | AimOptions):
        fitted = ("mbi", "jax")
    elif independent(contract) and contract.task.wanted:
        fitted = ("opacus", "torch")
    return ("dp-accounting", "opendp", *fitted, "numpy")


def noisy_counts(contract: Contract) -> dict[str, Any]:
    """Which outputs are in the release as they were drawn."""
    pairs = isinstance(contract.method.options, MixtureOptions)
    mechanisms = [MARGINALS, PAIRS] if pairs else [MARGINALS]
    what = "every column's histogram and every pair's table" if pairs else "every column's histogram"
    return {
        "file": MEASUREMENTS,
        "mechanisms": mechanisms,
        "text": f"The noisy counts of {what}, as the mechanisms released them, with the scale of their noise: of the "
        "training branch, before any post-processing, so they may be negative and need not add up. A pair's table "
        "leaves out rows that have no declared value in one of its columns. Intervals for counts, shares and means of "
        "the measured rows follow from them (synth.measurements).",
    }
