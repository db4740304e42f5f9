"""The share contract (the data owner's YAML) and the policy (the privacy officer's)."""

from synth.contract.columns import BooleanColumn, CategoricalColumn, Column, IntegerColumn, NumberColumn
from synth.contract.models import (
    Contract,
    DpdsynOptions,
    Expectation,
    Policy,
    Quality,
    UnitColumn,
)
from synth.contract.parse import (
    Fault,
    contract_from_document,
    load_contract,
    load_policy,
    parse_contract,
    resolve_uri,
)

__all__ = [
    "BooleanColumn",
    "CategoricalColumn",
    "Column",
    "Contract",
    "DpdsynOptions",
    "Expectation",
    "Fault",
    "IntegerColumn",
    "NumberColumn",
    "Policy",
    "Quality",
    "UnitColumn",
    "contract_from_document",
    "load_contract",
    "load_policy",
    "parse_contract",
    "resolve_uri",
]
