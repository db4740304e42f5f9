"""Declared expectations, evaluated by Great Expectations and judged by charged counts.

A pass or fail on private rows is an answer without noise to a question that the contract's author wrote. So only
expectations that look at single rows are accepted; the rows that violate each are found by Great Expectations inside
the step, counted, and the counts leave as one charged mechanism. What anyone sees is expectation, columns and the
judged verdict. Everything else of a result (partial lists of unexpected values, fingerprints of the frame,
tracebacks) is dropped here.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from synth.contract import Contract, Expectation
from synth.contract.row_expectations import ROW_EXPECTATIONS, with_instants
from synth.errors import ContractError
from synth.events import DiscreteGaussian
from synth.mechanisms import noisy_counts
from synth.plan import Demand, integer_queries
from synth.quality.results import Judgement
from synth.records import HOLDOUT, TRAIN, Owners, Records
from synth.schema import Schema

_ROW = "sluice row number"
_ONE_SIDED_99 = 2.326


def demand(contract: Contract) -> Demand:
    """One count of units and one count of violating units for each expectation, over both branches."""
    queries = 1 + len(contract.expectations)
    return Demand(
        "validation",
        (TRAIN, HOLDOUT),
        contract.method.options.shares.validation,
        integer_queries(DiscreteGaussian(1.0, 1, queries)),
        "counts of units and of units that violate each expectation",
        {"counts": queries},
    )


def check_expectations(contract: Contract, schema: Schema) -> None:
    """Evaluate every expectation on rows made from the public domain, so that a faulty one is found before any look.

    :raises ContractError: naming each expectation that Great Expectations cannot evaluate.
    """
    probe = schema.native(pd.DataFrame({column.name: _probe(column) for column in schema.columns}))
    faults = []
    for position, expectation in enumerate(contract.expectations):
        try:
            _violations(probe, [expectation])
        except _CannotEvaluate as error:
            faults.append(f"  - expectations.{position} ({expectation.type}): {error}")
    if faults:
        raise ContractError("\n".join(["Great Expectations cannot evaluate:", *faults]))


def measure(records: Records, contract: Contract, event: DiscreteGaussian) -> npt.NDArray[np.int64]:
    """Noisy counts: units, then units of which a row violates each expectation. ``records`` are private.

    *Sensitivity.* A unit is counted once, and violates or not by its own rows: each count moves by at most one, however
    many rows it has.
    """
    frame = Schema.from_contract(contract).native(records.parsed)
    violating = _by_unit(_violations(frame, contract.expectations), records.owners)
    everyone = np.ones((len(violating), 1), dtype=np.bool_)
    return noisy_counts(np.hstack([everyone, violating]), event)


def judge(noisy: npt.NDArray[np.int64], contract: Contract, event: DiscreteGaussian) -> tuple[Judgement, ...]:
    """Verdicts from noisy counts: post-processing.

    An expectation fails if its noisy count is above what its tolerance allows by more than the noise would explain
    in 99 of 100 cases; so one that is met exactly to its tolerance fails once in a hundred runs.
    """
    units = float(noisy[0])
    judgements = []
    for expectation, count in zip(contract.expectations, noisy[1:], strict=True):
        spread = event.sigma * math.sqrt(1 + expectation.tolerance**2)
        passed = count - expectation.tolerance * units <= _ONE_SIDED_99 * spread
        columns = ROW_EXPECTATIONS[expectation.type].columns(expectation.kwargs)
        judgements.append(Judgement(expectation.type, tuple(columns), expectation.tolerance, bool(passed)))
    return tuple(judgements)


class _CannotEvaluate(Exception):
    """Great Expectations raised; carries the exception's type only."""


def _by_unit(rows: npt.NDArray[np.bool_], owners: Owners) -> npt.NDArray[np.bool_]:
    """Whether any of its rows is marked, for each unit. Shape (units, properties)."""
    units = np.zeros((int(owners[-1]) + 1 if len(owners) else 0, rows.shape[1]), dtype=np.bool_)
    for property_of_rows, property_of_units in zip(rows.T, units.T, strict=True):
        property_of_units[owners[property_of_rows]] = True
    return units


def _violations(frame: pd.DataFrame, expectations: Sequence[Expectation]) -> npt.NDArray[np.bool_]:
    """Which rows violate which expectation, shape (rows, expectations). Private."""
    masks = np.zeros((len(frame), len(expectations)), dtype=np.bool_)
    if not expectations or frame.empty:
        return masks
    with _hushed():
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        import great_expectations
        from great_expectations.expectations.registry import get_expectation_impl

        context = great_expectations.get_context(mode="ephemeral")
        asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
        definition = asset.add_batch_definition_whole_dataframe("rows")
        numbered = frame.assign(**{_ROW: np.arange(len(frame))})
        batch = definition.get_batch({"dataframe": numbered})
        for position, expectation in enumerate(expectations):
            try:
                result = batch.validate(
                    get_expectation_impl(expectation.type)(**_kwargs(expectation, frame)),
                    result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [_ROW]},
                )
                rows = _unexpected_rows(result.result)
            except Exception as error:
                rows, failure = None, type(error).__name__
            else:
                failure = "an error inside Great Expectations"
            if rows is None:
                raise _CannotEvaluate(f"{failure}; check its kwargs against the column's type") from None
            masks[rows, position] = True
    return masks


def _kwargs(expectation: Expectation, frame: pd.DataFrame) -> dict[str, Any]:
    used = ROW_EXPECTATIONS[expectation.type].columns(expectation.kwargs)
    dates = any(pd.api.types.is_datetime64_dtype(frame[name].dtype) for name in used)
    return with_instants(expectation.kwargs) if dates else expectation.kwargs


def _unexpected_rows(result: dict[str, Any]) -> list[int] | None:
    if "unexpected_count" not in result:
        return None
    return [int(entry[_ROW]) for entry in result.get("unexpected_index_list") or ()]


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """No output, warning or log line of the library gets out: any of them may quote a cell."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)


def _probe(column: Any) -> list[Any]:
    """Five cells of a column's parsed type: public values and a null."""
    if not column.parses_to_float:
        return [column.categories[0]] * 4 + [None]
    low, high = (column.lower[0], column.upper[-1]) if column.is_numeric else (0.0, 1.0)
    return [low, high, (low + high) / 2, low, math.nan]
