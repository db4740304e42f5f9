"""What a release says of the methods whose label is a column like any other: independent, MST and AIM."""

from __future__ import annotations

from dataclasses import dataclass

from synth.contract import AimOptions, MstOptions, Options, ProductOptions

_GRID = "Every column's histogram is measured with noise on a fine public grid"
_MODEL = (
    "a graphical model is fitted to all of it by Private-PGM (McKenna, Sheldon, Miklau, 2019; the package mbi) and "
    "rows "
    "are drawn from the model"
)
_SMOOTHED = (
    "Smoothing of noisy histograms of numbers over cells that the noise cannot tell apart; projection to "
    "distributions; "
    "null gets no share where it is not allowed."
)
_GROUPS = "Which codes are joined into groups, from the released distributions and public facts."
_DRAWN = (
    "Sampling of groups from the model, column by column along its elimination order, and of a cell inside each "
    "group by "
    "its column's distribution."
)
_SMALL = (
    "in the measured tables rare categories stand together, and neighbouring numbers too, so inside such a group "
    "nothing "
    "is told by another column."
)
_TWO = (
    "Two columns at a time where their table was measured or where few tables lie between them: the statement names "
    "the "
    "measured tables, and the quality report has every distance."
)


@dataclass(frozen=True)
class TableWords:
    """The words that differ.

    :ivar method: the synthesizer in a few sentences.
    :ivar not_tuned: what a practitioner would tune, and who set it.
    :ivar counted: what its mechanisms beyond histograms work on, for the contribution bound.
    :ivar post_processing: what is done with outputs of charged mechanisms and public facts.
    :ivar two_columns: what pairs are good for; empty for nothing.
    :ivar relations: what relations must not be looked for.
    :ivar small: what small groups are.
    :ivar pairs: how to read the distances of pairs.
    """

    method: str
    not_tuned: str
    counted: str
    post_processing: tuple[str, ...]
    two_columns: str
    relations: str
    small: str
    pairs: str


_INDEPENDENT = TableWords(
    method=f"{_GRID}; each column is drawn from its own, the label as any other, independently of all others.",
    not_tuned="there is nothing to tune: the grid follows from public facts.",
    counted="",
    post_processing=(_SMOOTHED, "Sampling of each column from its distribution, independently."),
    two_columns="",
    relations="**Relations between columns.** Columns are independent of each other, the label included: correlations, "
    "regressions and clusters are meaningless here, and nothing can be learnt to predict.",
    small="conditions on several columns at once multiply shares that are not independent in reality.",
    pairs="Columns of this release are independent of each other by construction, so dependent pairs stand out.",
)
_MST = TableWords(
    method=f"{_GRID}. A spanning tree over the columns is chosen edge by edge by the exponential mechanism, for how "
    "far "
    f"pairs are from independent; the table of each edge, codes joined into groups, is measured with noise; {_MODEL}. "
    "It follows MST (McKenna, Miklau, Sheldon, 2021), on a grid of groups where that paper joins rare codes alone.",
    not_tuned="the split of the budget is the contract's; the sizes of groups follow from public facts.",
    counted="scores of choices are charged for a unit that moves each by {most}; ",
    post_processing=(_SMOOTHED, _GROUPS, "The fit of the graphical model to the noisy tables.", _DRAWN),
    two_columns=_TWO,
    relations="**Relations beyond the tree.** One table was measured for each edge of a tree over the columns: other "
    "pairs, "
    "and three and more columns together, are as these imply them, and no better. Fixed rules between columns are not "
    "kept.",
    small=_SMALL,
    pairs="The release follows the noisy tables of a tree of pairs; other pairs are as the tree implies them, so a "
    "pair "
    "that depends otherwise stands out.",
)
_AIM = TableWords(
    method=f"{_GRID}. Then in each of a fixed number of rounds a table of one or two columns is chosen by the "
    "exponential "
    "mechanism, for how far the model is from it, and measured with noise, codes joined into groups; after each round "
    f"{_MODEL} at the end. It follows AIM (McKenna, Mullins, Sheldon, Miklau, 2022) with all pairs as the workload, "
    "but "
    "plans rounds and noise beforehand, where that paper lets the noise follow from what came out.",
    not_tuned="the number of rounds and the size of the model are the contract's, or the program's defaults; the "
    "sizes of "
    "groups follow from public facts.",
    counted="scores of choices are charged for a unit that moves each by {twice}; ",
    post_processing=(
        _SMOOTHED,
        _GROUPS,
        "The fit of the graphical model to the noisy tables, after each round.",
        _DRAWN,
    ),
    two_columns=_TWO,
    relations="**Relations of three and more columns.** Tables of one and two columns were measured: three columns "
    "together are as these imply them, and no better, and so are pairs that were not chosen. Fixed rules between "
    "columns "
    "are not kept.",
    small=_SMALL,
    pairs="The release follows noisy tables that were chosen where the model was wrong, so a pair stands out that "
    "was not "
    "chosen, or whose table was too noisy or too coarse.",
)


def words_of(options: Options) -> TableWords | None:
    """The words for a method; None for DPDSyn, which has words of its own."""
    if isinstance(options, ProductOptions):
        return _INDEPENDENT
    if isinstance(options, MstOptions):
        return _MST
    return _AIM if isinstance(options, AimOptions) else None
