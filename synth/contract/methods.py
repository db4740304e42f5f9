"""The synthesizers that a contract can name, and their options: public facts, whose defaults look at no private data.

Defaults were chosen on public benchmark tables (docs/methods.md names them).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from synth.contract.columns import Frozen

Share = Annotated[float, Field(gt=0, lt=1)]


MOST_CLASSES = 100  # of a target whose rows a mixture labels: what is held in training grows with them


class _Shares(Frozen):
    """How the release's budget is split between its mechanisms, before composition is tightened."""

    validation: Share = 0.03

    @model_validator(mode="after")
    def _sum(self) -> Self:
        total = sum(getattr(self, name) for name in type(self).model_fields)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares add up to {total:g}, they must add up to 1")
        return self


class IndependentShares(_Shares):
    """The budget's split where features are independent."""

    marginals: Share = 0.30
    label_model: Share = 0.62
    calibration: Share = 0.05


class IndependentOptions(Frozen):
    """Options of certified DPDSyn whose features are drawn independently: the paper's own, up to noise."""

    structure: Literal["independent"]
    labels: Literal["sampled", "argmax"] = Field(
        "sampled", description="sampled from calibrated probabilities; argmax gives each row its likeliest label."
    )
    hidden_units: Annotated[int, Field(ge=0, le=1024)] = Field(
        0, description="Width of the label model's hidden layer; 0 is softmax regression."
    )
    batch_size: Annotated[int, Field(ge=16, le=65536)] = Field(1024, description="Expected Poisson batch.")
    steps: Annotated[int, Field(ge=1, le=100_000)] = 320
    clipping_norm: Annotated[float, Field(gt=0)] = 1.0
    learning_rate: Annotated[float, Field(gt=0)] = 0.05
    checkpoint_every: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Steps after which training keeps its state; a worker that dies loses no more than these."
    )
    max_resumes: Annotated[int, Field(ge=1, le=20)] | None = Field(
        None,
        description="With checkpoint_every, how often training may be resumed, by default once; the plan counts the "
        "lost steps of each from the start.",
    )
    shares: IndependentShares = IndependentShares()

    @model_validator(mode="after")
    def _whole_segments(self) -> Self:
        if self.checkpoint_every is not None and self.steps % self.checkpoint_every:
            raise ValueError(f"steps={self.steps} must be a multiple of checkpoint_every={self.checkpoint_every}")
        if self.max_resumes is not None and self.checkpoint_every is None:
            raise ValueError("max_resumes needs checkpoint_every: without checkpoints there is nothing to resume from")
        return self

    @property
    def segments(self) -> int:
        """How many segments training runs in; 0 for one piece."""
        return self.steps // self.checkpoint_every if self.checkpoint_every else 0

    @property
    def resumes(self) -> int:
        """How often training may be resumed; 0 for one piece."""
        return (self.max_resumes or 1) if self.checkpoint_every else 0

    @property
    def lost_steps(self) -> int:
        """How many steps may be lost and taken again."""
        return self.resumes * self.checkpoint_every if self.checkpoint_every else 0


class MixtureShares(_Shares):
    """The budget's split where pairs of columns are measured."""

    marginals: Share = 0.18
    pairs: Share = 0.72
    label_correction: Share = 0.07


class MixtureOptions(Frozen):
    """Options of certified DPDSyn whose features come from a mixture that is fitted to all noisy pairs."""

    structure: Literal["mixture"] = "mixture"
    labels: Literal["utility", "fidelity", "argmax"] = Field(
        "utility",
        description="fidelity draws labels from the label model's probabilities; utility from sharper ones, of which "
        "consumers' models learn more, at some cost to the tables of pairs with the label; argmax gives each row its "
        "likeliest label.",
    )
    components: Annotated[int, Field(ge=2, le=2000)] = Field(
        300, description="Product distributions in the mixture; memory and time grow with it, privacy does not."
    )
    shares: MixtureShares = MixtureShares()


def _structure(options: Any) -> Any:
    """Which options are meant: a mixture, unless the structure says otherwise."""
    return options.get("structure", "mixture") if isinstance(options, dict) else getattr(options, "structure", None)


DpdsynOptions = Annotated[
    Annotated[IndependentOptions, Tag("independent")] | Annotated[MixtureOptions, Tag("mixture")],
    Discriminator(
        _structure,
        custom_error_type="structure",
        custom_error_message="accepted: fields of one structure, which is independent or mixture",
    ),
]


class _Method(Frozen):
    @property
    def runs(self) -> str:
        """The name of the method that runs."""
        return str(self.name)  # type: ignore[attr-defined]


class Dpdsyn(_Method):
    """Certified DPDSyn, in one of two structures."""

    name: Literal["dpdsyn"] = "dpdsyn"
    options: DpdsynOptions = MixtureOptions()


class ProductShares(_Shares):
    """The budget's split where each column is measured by itself."""

    marginals: Share = 0.97


class ProductOptions(Frozen):
    """Options of the product distribution: every column by itself, the label as any other."""

    shares: ProductShares = ProductShares()


class Independent(_Method):
    """Every column from its own noisy histogram: the floor that others have to be above."""

    name: Literal["independent"]
    options: ProductOptions = ProductOptions()


class MstShares(_Shares):
    """The budget's split of MST: a third each for columns, choices and pairs, as in the paper."""

    marginals: Share = 0.33
    tree: Share = 0.31
    tables: Share = 0.33


class MstOptions(Frozen):
    """Options of MST."""

    shares: MstShares = MstShares()


class Mst(_Method):
    """MST (McKenna, Miklau, Sheldon, 2021): a tree of pairs that is chosen under privacy, by Private-PGM."""

    name: Literal["mst"]
    options: MstOptions = MstOptions()


class AimShares(_Shares):
    """The budget's split of AIM: columns first, then rounds that each choose a table and measure it."""

    marginals: Share = 0.17
    aim: Share = 0.80


class AimOptions(Frozen):
    """Options of AIM."""

    rounds: Annotated[int, Field(ge=1, le=500)] | None = Field(
        None, description="Tables that are chosen and measured, one a round; by default twice as many as columns."
    )
    degree: Annotated[int, Field(ge=2, le=3)] = Field(
        2, description="The workload is all tables of so many columns; tables of fewer may be chosen too."
    )
    max_model_mb: Annotated[float, Field(gt=0, le=1000)] = Field(
        4, description="The most that the graphical model may hold; time and memory grow with it, privacy does not."
    )
    shares: AimShares = AimShares()


class Aim(_Method):
    """AIM (McKenna, Mullins, Sheldon, Miklau, 2022): tables that the model gets wrong, by Private-PGM."""

    name: Literal["aim"]
    options: AimOptions = AimOptions()


def _name(method: Any) -> Any:
    """Which method is meant: DPDSyn, unless the name says otherwise."""
    return method.get("name", "dpdsyn") if isinstance(method, dict) else getattr(method, "name", None)


Chosen = Annotated[Annotated[Dpdsyn, Tag("dpdsyn")] | Annotated[Independent, Tag("independent")], Discriminator(_name)]


class Auto(Frozen):
    """A method that is chosen by the contract's public facts: see :mod:`synth.contract.choice`.

    What was chosen is part of the contract as it is digested, so what runs is what was reserved.
    """

    name: Literal["auto"]
    chosen: Chosen | None = Field(None, description="Filled in by the program, whatever is given.")
    because: str | None = Field(None, description="Filled in by the program, whatever is given.")

    @property
    def options(self) -> IndependentOptions | MixtureOptions | ProductOptions:
        """Those of the method that was chosen."""
        if self.chosen is None:
            raise AttributeError("Only a whole contract knows what is chosen.")
        return self.chosen.options

    @property
    def runs(self) -> str:
        """The name of the method that runs."""
        assert self.chosen is not None, "Only a whole contract knows what is chosen."
        return self.chosen.name


Method = Annotated[
    Annotated[Dpdsyn, Tag("dpdsyn")]
    | Annotated[Independent, Tag("independent")]
    | Annotated[Mst, Tag("mst")]
    | Annotated[Aim, Tag("aim")]
    | Annotated[Auto, Tag("auto")],
    Discriminator(_name),
]
METHODS = ("dpdsyn", "independent", "mst", "aim", "auto")
Options = IndependentOptions | MixtureOptions | ProductOptions | MstOptions | AimOptions
