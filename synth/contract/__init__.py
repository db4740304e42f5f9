"""The share contract (the data owner's YAML) and the policy (the privacy officer's)."""

from synth.contract.columns import (
    BooleanColumn,
    CategoricalColumn,
    Column,
    DateColumn,
    DatetimeColumn,
    IdentifierColumn,
    IntegerColumn,
    MeasuredColumn,
    NumberColumn,
    OpenCategoricalColumn,
)
from synth.contract.compute import Compute, Pod, Toleration
from synth.contract.methods import IndependentOptions, Method, MixtureOptions, MixtureShares
from synth.contract.models import (
    AssetUpdate,
    Contract,
    Expectation,
    Policy,
    Privacy,
    UnitColumn,
    Window,
    WindowRule,
)
from synth.contract.open_columns import open_columns, selection_deltas
from synth.contract.parse import (
    Fault,
    contract_from_document,
    load_contract,
    load_policy,
    parse_contract,
    resolve_uri,
)
from synth.contract.task import Quality, Target, Task
from synth.contract.windows import example_of, form_of, last_window_before, names_window, window_of_text

__all__ = [
    "AssetUpdate",
    "BooleanColumn",
    "CategoricalColumn",
    "Column",
    "Compute",
    "Contract",
    "DateColumn",
    "DatetimeColumn",
    "Expectation",
    "Fault",
    "IdentifierColumn",
    "IndependentOptions",
    "IntegerColumn",
    "MeasuredColumn",
    "Method",
    "MixtureOptions",
    "MixtureShares",
    "NumberColumn",
    "OpenCategoricalColumn",
    "Pod",
    "Policy",
    "Privacy",
    "Quality",
    "Target",
    "Task",
    "Toleration",
    "UnitColumn",
    "Window",
    "WindowRule",
    "contract_from_document",
    "example_of",
    "form_of",
    "last_window_before",
    "load_contract",
    "load_policy",
    "names_window",
    "open_columns",
    "parse_contract",
    "resolve_uri",
    "selection_deltas",
    "window_of_text",
]
