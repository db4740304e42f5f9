"""What consumers want to predict, and what a release must reach: public facts of the contract.

A task has one target, several in an order, or none. The order of several says which labels are drawn first: those of
a later target are drawn given the earlier ones, so that its relation to them is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from synth.contract.columns import Frozen

_SHAPE = "accepted: {target, kind}, {targets: [{target, kind, share}, ...]}, or {kind: none}"
_Column = Annotated[str, Field(min_length=1)]
_Bound = Annotated[float, Field(gt=0, le=1)] | None


class Target(Frozen):
    """A column to predict, and its part of what label models may spend."""

    target: _Column
    kind: Literal["binary", "multiclass", "regression"]
    share: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Of the label models' part of the budget; by default all targets have the same."
    )


class Task(Frozen):
    """One target, several targets, or none: the labels of the release are guided by them."""

    target: _Column | None = None
    kind: Literal["binary", "multiclass", "regression", "none"] | None = None
    targets: tuple[Target, ...] = Field((), description="Instead of target and kind; later ones follow earlier ones.")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        several = bool(self.targets) and self.target is None and self.kind is None
        none = self.kind == "none" and self.target is None and not self.targets
        one = self.target is not None and self.kind not in (None, "none") and not self.targets
        if not (one or several or none):
            raise ValueError(_SHAPE)
        names = [each.target for each in self.targets]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"targets given more than once: {', '.join(repeated)}")
        shares = [each.share for each in self.targets if each.share is not None]
        if shares and (len(shares) < len(self.targets) or abs(sum(shares) - 1) > 1e-6):
            raise ValueError("give each target a share, adding up to 1, or none, for equal ones")
        return self

    @property
    def wanted(self) -> tuple[Target, ...]:
        """The targets in order, each with its share; none where there is none."""
        if self.target is not None and self.kind is not None and self.kind != "none":
            return (Target(target=self.target, kind=self.kind, share=1.0),)
        even = 1 / max(1, len(self.targets))
        return tuple(
            each if each.share is not None else each.model_copy(update={"share": even}) for each in self.targets
        )

    @model_serializer(mode="wrap")
    def _as_given(self, handler: SerializerFunctionWrapHandler) -> Mapping[str, Any]:
        """The fields of the form that was chosen."""
        return {name: value for name, value in handler(self).items() if value}


class Quality(Frozen):
    """What a release must reach on the holdout; measured under DP, before anybody sees a number.

    A bound holds for every target of the kind that it measures.
    """

    min_accuracy_gradient_boosting: _Bound = None
    min_accuracy_logistic_regression: _Bound = None
    max_error_gradient_boosting: _Bound = Field(
        None, description="Mean absolute error of a regression, as a share of the target's declared range."
    )
    max_error_linear_regression: _Bound = Field(None, description="The same, of ridge regression.")
    max_pair_distance: _Bound = None
    subgroups: tuple[_Column, ...] = Field(
        (), description="Columns whose groups the release is tried on one by one; categorical, boolean, or few cells."
    )
    min_subgroup_accuracy: _Bound = Field(
        None, description="Of gradient boosting, in every group that has enough records to say."
    )
    max_subgroup_gap: _Bound = Field(
        None, description="Between the groups of one column that have enough records to say."
    )

    @model_validator(mode="after")
    def _thresholds_of_something(self) -> Self:
        if not self.subgroups and (self.min_subgroup_accuracy is not None or self.max_subgroup_gap is not None):
            raise ValueError("min_subgroup_accuracy and max_subgroup_gap need subgroups: [COLUMN, ...]")
        if len(set(self.subgroups)) < len(self.subgroups):
            raise ValueError("subgroups names a column more than once")
        return self
