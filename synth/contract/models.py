"""The share contract and the officer's policy, as values.

A *share contract* is the data owner's page of public facts about one dataset; a *policy* is the privacy officer's
page about the people behind it. A contract can only be stricter than its policy. Neither ever holds anything that
was computed from the data.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from synth.canonical import canonical_json
from synth.contract.choice import choose
from synth.contract.columns import Column, Frozen, IdentifierColumn
from synth.contract.compute import Compute
from synth.contract.constraints import Constraints
from synth.contract.methods import Auto, Dpdsyn, Method
from synth.contract.task import Quality, Task
from synth.contract.windows import WindowLength, WindowName, example_of, names_window

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,62}$")]
Line = Annotated[str, Field(min_length=1, max_length=300)]
Epsilon = Annotated[float, Field(gt=0, le=50)]
Delta = Annotated[float, Field(gt=0, lt=0.01)]


class Dataset(Frozen):
    """Who shares what."""

    name: Name
    title: Line
    owner: Line
    description: Annotated[str, Field(min_length=1)]
    licence: Line

    @property
    def release_asset(self) -> str:
        """The name of the Airflow asset that each release updates."""
        return f"release_{self.name}"


class Source(Frozen):
    """Where the private table lives: one Parquet or CSV file, by fsspec URI. A CSV record is one line, quoted or not.

    ``${NAME}`` in the URI is read from the environment.
    """

    uri: Annotated[str, Field(min_length=1)]
    format: Literal["parquet", "csv"] | None = Field(None, description="By default the URI's suffix.")
    delimiter: Annotated[str, Field(pattern=r"^[^\r\n\"\x00]$")] = ","
    null_values: tuple[str, ...] = Field(("", "NA", "NaN", "null"), description="CSV cells that mean null.")

    @model_validator(mode="after")
    def _known_format(self) -> Source:
        if self.format is None and not self.uri.lower().endswith((".parquet", ".csv")):
            raise ValueError(f"uri {self.uri!r} ends in neither .parquet nor .csv; give format: parquet | csv")
        return self

    @property
    def file_format(self) -> str:
        """``parquet`` or ``csv``."""
        return self.format or ("parquet" if self.uri.lower().endswith(".parquet") else "csv")


class UnitColumn(Frozen):
    """The column whose value names the person (or firm, or device) that a row belongs to."""

    column: Annotated[str, Field(min_length=1)]


def _row_or_column(unit: Any) -> Any:
    several = unit.get("columns", unit.get("column")) if isinstance(unit, dict) else unit
    if isinstance(several, list | tuple):
        raise ValueError(
            "a record with several owners (both ends of a transfer, say) would be in the data of each, so that no "
            "bound on one unit's records bounds what a person changes; give the source one row for each record and "
            "owner, and name one column. Accepted: row, or {column: NAME}"
        )
    if unit != "row" and not isinstance(unit, dict | UnitColumn):
        raise ValueError("accepted: row, or {column: NAME}")
    return unit


Unit = Annotated[Literal["row"] | UnitColumn, BeforeValidator(_row_or_column)]


class WindowRule(Frozen):
    """A fresh budget for each window of time: the unit is then (unit, window), and a release reads one window's rows.

    A row belongs to the window of the date in one of its cells, and to none where that cell holds no date.
    """

    column: Annotated[str, Field(min_length=1)] = Field(description="A date or ISO 8601 text in every row.")
    every: WindowLength


class Window(WindowRule):
    """The policy's rule, and the window that is released."""

    release: WindowName | None = Field(
        None,
        description="2026, 2026-Q3 or 2026-07. By default the last one that was over when budget was reserved, UTC.",
    )

    @model_validator(mode="after")
    def _named_as_long_as_it_is(self) -> Window:
        if self.release is not None and not names_window(self.release, self.every):
            raise ValueError(f"release {self.release!r} is no {self.every}; accepted: such as {example_of(self.every)}")
        return self

    @property
    def rule(self) -> WindowRule:
        """What a policy can be compared with."""
        return WindowRule(column=self.column, every=self.every)


class Privacy(Frozen):
    """What one release may cost, and for whom the guarantee is."""

    unit: Unit
    window: Window | None = None
    neighbouring: Literal["add_or_remove_one"] = "add_or_remove_one"
    epsilon: Epsilon = Field(
        description="What a release is planned to cost; attempts that died come on top, within the policy's bound."
    )
    delta: Delta
    approximate_units: Annotated[int, Field(ge=100)] = Field(
        description="A planning constant that is public knowledge; never compared with the data."
    )
    max_records: Annotated[int, Field(ge=1, le=20)] = Field(
        1, description="Rows kept of one unit, chosen by secret randomness; all noise grows with it."
    )
    null_ids: Literal["drop", "row"] = Field(
        "drop", description="Rows without a unit id are left out, or each is a unit of its own."
    )
    max_attempts: Annotated[int, Field(ge=1, le=5)] = Field(
        2, description="How often a mechanism may run; one that died stays spent and is charged again."
    )

    @model_validator(mode="after")
    def _delta_small(self) -> Privacy:
        if self.delta >= 1 / self.approximate_units:
            raise ValueError(
                f"delta={self.delta:g} must be below 1/approximate_units={1 / self.approximate_units:.3g}: "
                "otherwise publishing some people's rows outright would satisfy the definition"
            )
        return self

    @model_validator(mode="after")
    def _rows_are_single(self) -> Privacy:
        if self.unit == "row" and (self.max_records > 1 or self.null_ids != "drop"):
            raise ValueError(
                "unit row has one record each and no id; max_records and null_ids are for unit: {column: NAME}"
            )
        return self


class Expectation(Frozen):
    """A Great Expectations expectation on single rows, with the share of units that may violate it."""

    type: Annotated[str, Field(pattern=r"^expect_[a-z_]+$")]
    kwargs: dict[str, Any] = Field(default_factory=dict)
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @field_validator("kwargs")
    @classmethod
    def _no_mostly(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        if "mostly" in kwargs:
            raise ValueError("'mostly' is judged by a charged count here: give tolerance (1 - mostly) instead")
        return kwargs


class Approval(Frozen):
    """Who lets a release out: a person, or the stated conditions."""

    mode: Literal["automatic", "human"]
    max_epsilon: Epsilon | None = Field(
        None, description="automatic: only while the release's charged ε, retries included, stays within this."
    )
    timeout_hours: Annotated[float, Field(gt=0)] = Field(72, description="human: no answer is a refusal.")


def holds_password(uri: str) -> bool:
    """Whether a URI names a user with a password."""
    return re.match(r"[^/:@]+://[^/@]*:[^/@]*@", uri) is not None


class Publish(Frozen):
    """The bucket: releases go to URI/NAME/VERSION/."""

    uri: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _no_password(self) -> Publish:
        if holds_password(self.uri):
            raise ValueError(
                "uri holds a password, which the address of a release would show; if it was real, replace it"
            )
        return self


class AssetUpdate(Frozen):
    """A run starts when an Airflow asset is updated; named as its producer names it, whatever its URI."""

    asset: Annotated[str, Field(min_length=1, max_length=1500)]


def _cron_or_asset(schedule: Any) -> Any:
    given = schedule["asset"] if isinstance(schedule, dict) and set(schedule) == {"asset"} else schedule
    if not isinstance(schedule, AssetUpdate) and not (isinstance(given, str) and 0 < len(given.strip()) <= 1500):
        raise ValueError("accepted: a cron expression, or {asset: NAME} with the name of an Airflow asset")
    if schedule == "@continuous":
        raise ValueError("each run would start the next, until the budget is spent; accepted: a cron expression")
    return schedule


Schedule = Annotated[Annotated[str, Field(min_length=1)] | AssetUpdate, BeforeValidator(_cron_or_asset)]


class Contract(Frozen):
    """One share contract."""

    version: Literal[1]
    dataset: Dataset
    source: Source
    privacy: Privacy
    columns: Annotated[dict[str, Column], Field(min_length=2)] = Field(alias="schema")
    expectations: tuple[Expectation, ...] = ()
    constraints: Constraints = Field((), description="Rules between columns that every released row keeps.")
    task: Task
    method: Method = Dpdsyn()
    rows: Annotated[int, Field(ge=1, le=1_000_000_000)]
    quality: Quality = Quality()
    approval: Approval
    publish: Publish
    compute: Compute = Compute()
    schedule: Schedule | None = Field(None, description="By default a run starts only when somebody triggers it.")

    @property
    def identifiers(self) -> dict[str, IdentifierColumn]:
        """The declared columns that no step reads."""
        return {name: column for name, column in self.columns.items() if isinstance(column, IdentifierColumn)}

    @property
    def measured(self) -> tuple[str, ...]:
        """The declared columns that are read and measured: all but identifiers."""
        return tuple(name for name in self.columns if name not in self.identifiers)

    @property
    def dropped(self) -> tuple[str, ...]:
        """The declared columns that a release does not have."""
        return tuple(name for name, column in self.identifiers.items() if column.pattern is None)

    @model_validator(mode="after")
    def _chosen_method(self) -> Contract:
        if not isinstance(self.method, Auto):
            return self
        privacy = self.privacy
        measured = [self.columns[name] for name in self.measured]
        targets = [self.columns[target.target] for target in self.task.wanted if target.target in self.columns]
        chosen, because = choose(
            measured, targets, privacy.approximate_units, privacy.max_records, privacy.epsilon, privacy.delta
        )
        return self.model_copy(update={"method": Auto(name="auto", chosen=chosen, because=because)})

    def document(self) -> dict[str, Any]:
        """The contract as plain JSON values, defaults written out."""
        return self.model_dump(mode="json", by_alias=True)

    def digest(self) -> str:
        """SHA-256 of the canonical document: names this exact contract."""
        return hashlib.sha256(canonical_json(self.document()).encode()).hexdigest()


class PolicyApproval(Frozen):
    """The weakest approval that a contract under this policy may ask for."""

    mode: Literal["automatic", "human"]
    approvers: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _someone(self) -> PolicyApproval:
        if self.mode == "human" and not self.approvers:
            raise ValueError("mode human needs at least one name in approvers")
        return self


class Policy(Frozen):
    """The officer's policy: one budget for the people behind some sources."""

    name: Name
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    unit: Unit
    epsilon: Epsilon
    delta: Delta
    max_release_epsilon: Epsilon
    window: WindowRule | None = None
    null_ids: Literal["row"] | None = Field(
        None, description="row: contracts may make each row without an id a unit of its own."
    )
    horizon: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="How many releases the budget is to last for, in all or in each window; no more are admitted."
    )
    holdout_fraction: Annotated[float, Field(ge=0.05, le=0.5)] = 0.2
    selection_delta: Delta | None = Field(
        None,
        description="The part of delta that is set aside for selecting the categories of open columns, over all "
        "releases (of a window); by default none, and contracts with open columns are refused.",
    )
    approval: PolicyApproval
    succeeds: Name | None = Field(None, description="The policy that this one takes over from, with all it has spent.")

    @model_validator(mode="after")
    def _release_within_total(self) -> Policy:
        if self.max_release_epsilon > self.epsilon:
            raise ValueError(
                f"max_release_epsilon={self.max_release_epsilon:g} is above the total epsilon={self.epsilon:g}"
            )
        return self

    @model_validator(mode="after")
    def _leaves_delta(self) -> Policy:
        if self.selection_delta is not None and self.selection_delta > self.delta / 2:
            raise ValueError(
                f"selection_delta={self.selection_delta:g} is set aside from delta={self.delta:g}; accepted: at most "
                "half of it, so that enough is left for the noise"
            )
        return self

    @model_validator(mode="after")
    def _after_another(self) -> Policy:
        if self.succeeds == self.name:
            raise ValueError(f"succeeds={self.name!r} is this policy itself; name the one that it takes over from")
        return self
