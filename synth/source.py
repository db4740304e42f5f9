"""The one read of the private table, and the snapshot that every later step works on.

A file is read once, into the declared columns, cell by cell. Where the contract has windows, only rows of the released
one stay, each by its own date. Then contributions are bounded (of a unit's rows at most ``max_records`` are kept,
chosen by secret randomness) and units are split into *train* and *holdout* by a secret keyed hash that is fixed for the
policy's life. A neighbouring table, with one unit more or less, differs in at most ``max_records`` rows of one branch.

The hash is of the unit's id where there is one, else of (row content, occurrence number): never of a row's
position, which would move other people's rows between branches. Whether the read succeeds depends on the file's
existence, format and column names, never on a cell. A CSV record is one line, quoted or not: a stray quote spoils its
own line and no other, and text with line breaks belongs into Parquet. Lines that do not fit the header are dropped
without a word; rows without a unit id are too, or are units of their own, as the contract declares.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import fsspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synth.cells import canonical_texts, plain_column
from synth.contract import Contract, UnitColumn, resolve_uri, window_of_text
from synth.contract.windows import WindowLength
from synth.errors import ContractError, SourceUnavailable
from synth.guard import Sealed
from synth.randomness import random_words
from synth.records import HOLDOUT, Owners, Records, numbered, withheld
from synth.schema import Schema

_LONGEST_CELL = 1 << 20


@dataclass(frozen=True, repr=False)
class Snapshot:
    """Private. Parsed rows of both branches, those of a unit next to each other.

    :ivar frame: the declared columns.
    :ivar owners: the unit of each row, see :class:`synth.records.Records`.
    :ivar holdout: whether each row's unit is in the holdout.
    """

    frame: pd.DataFrame
    owners: Owners
    holdout: npt.NDArray[np.bool_]
    __repr__ = withheld

    def records(self, branch: str) -> Records:
        """The rows of one branch."""
        chosen = self.holdout if branch == HOLDOUT else ~self.holdout
        return Records(self.frame[chosen].reset_index(drop=True), numbered(self.owners[chosen]))

    def sealed(self, *branches: str) -> Sealed[Records]:
        """The rows of one branch, or of both, for mechanisms that were charged for them."""
        if len(branches) == 1:
            return Sealed(self.records(branches[0]), branches)
        return Sealed(Records(self.frame, self.owners), branches)


def check_columns(contract: Contract) -> None:
    """Open the source and compare its column names with the contract; reads no row.

    :raises SourceUnavailable: if it cannot be opened as the declared format.
    :raises ContractError: if a declared column is missing or ambiguous.
    """
    names = _column_names(contract)
    wanted = _wanted(contract)
    missing = [name for name in wanted if name not in names]
    twice = [name for name in wanted if names.count(name) > 1]
    if missing:
        # The source's own names are not shown: the first line of a file without a header is a private row.
        raise ContractError(
            f"schema: the source has no column {', '.join(map(repr, missing))} among its {len(names)}; declare the "
            "columns as the file's header names them, and give a CSV a header line"
        )
    if twice:
        raise ContractError(f"schema: the source has more than one column {', '.join(map(repr, twice))}")


def read_snapshot(
    contract: Contract, schema: Schema, *, split_key: bytes, holdout_fraction: float, window: str = ""
) -> Snapshot:
    """Read, keep one window's rows, bound contributions, parse, split. Private result.

    Cost: linear in rows, and one sort of them; the whole table is held in memory.

    :param window: the window that is released, where the contract has windows.
    """
    table = _read(contract)
    privacy = contract.privacy
    if privacy.window is not None:
        table = table.filter(pa.array(_in_window(table[privacy.window.column], privacy.window.every, window)))
    if isinstance(privacy.unit, UnitColumn):
        units = canonical_texts(table[privacy.unit.column])
        if privacy.null_ids == "row":
            units = _with_units_of_their_own(units, schema, table)
        kept = rows_kept(units, privacy.max_records)
        parsed, units = schema.parse(table.take(pa.array(kept))), units[kept]
    else:
        parsed = schema.parse(table)
        units = _row_units(schema.row_texts(parsed))
    owners = numbered(pd.factorize(units)[0].astype(np.int64))
    return Snapshot(parsed, owners, holdout_mask(units, split_key, holdout_fraction))


def rows_kept(units: npt.NDArray[Any], most: int) -> npt.NDArray[np.int64]:
    """Positions of the rows kept: of each unit at most ``most``, uniformly at random; none of a null unit.

    Those of one unit stand together. Which of its rows a unit keeps depends on that unit and on secret randomness.
    """
    frame = pd.DataFrame({"unit": pd.factorize(units)[0], "draw": random_words(len(units))})
    frame = frame[frame["unit"] >= 0].sort_values("draw")
    chosen = frame[frame.groupby("unit").cumcount() < most]
    return chosen.index[np.argsort(chosen["unit"].to_numpy(), kind="stable")].to_numpy(dtype=np.int64)


def holdout_mask(units: npt.NDArray[Any], key: bytes, fraction: float) -> npt.NDArray[np.bool_]:
    """Which units belong to the holdout: HMAC-SHA256 of the unit, read as a number in [0, 1), below ``fraction``."""
    limit = int(fraction * 2**64)
    digests = (hmac.digest(key, str(unit).encode("utf-8", "surrogatepass"), hashlib.sha256) for unit in units)
    return np.fromiter((int.from_bytes(d[:8], "big") < limit for d in digests), dtype=np.bool_, count=len(units))


def _row_units(texts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(content, occurrence) of each row: equal rows are numbered, so one row more adds one unit and moves none."""
    occurrence = pd.DataFrame({"text": texts}).groupby("text").cumcount()
    return np.array([f"{number}\x1e{text}" for number, text in zip(occurrence, texts, strict=True)], dtype=object)


def _with_units_of_their_own(units: npt.NDArray[Any], schema: Schema, table: pa.Table) -> npt.NDArray[Any]:
    """Units with one made up for each row without an id, of (content, occurrence), as where the row is the unit.

    No id equals one of these: text is decoded without lone surrogates.
    """
    missing = pd.isna(units)
    alone = _row_units(schema.row_texts(schema.parse(table.filter(pa.array(missing)))))
    units = units.copy()
    units[missing] = [f"\ud800{unit}" for unit in alone]
    return units


def _in_window(cells: pa.ChunkedArray, every: WindowLength, window: str) -> npt.NDArray[np.bool_]:
    """Which rows are of the window, each by its own cell."""
    texts = canonical_texts(cells)
    return np.fromiter((window_of_text(text, every) == window for text in texts), dtype=np.bool_, count=len(texts))


def _wanted(contract: Contract) -> list[str]:
    """The columns that are read, each once."""
    privacy = contract.privacy
    unit = [privacy.unit.column] if isinstance(privacy.unit, UnitColumn) else []
    window = [privacy.window.column] if privacy.window is not None else []
    return list(dict.fromkeys([*contract.measured, *unit, *window]))


@contextmanager
def _opened(contract: Contract) -> Iterator[IO[bytes]]:
    """The source as a binary file; any failure inside loses its text, which could quote the file."""
    uri = resolve_uri(contract.source.uri)
    failure: str | None = None
    try:
        with fsspec.open(uri, "rb") as file:
            yield file
    except ContractError:
        raise
    except Exception as error:
        failure = type(error).__name__
    if failure is not None:
        raise SourceUnavailable(
            f"source.uri {contract.source.uri!r}: cannot be read as {contract.source.file_format} ({failure}); "
            "check that it exists, that the worker may read it and that the format is right"
        )


def _column_names(contract: Contract) -> list[str]:
    with _opened(contract) as file:
        if contract.source.file_format == "parquet":
            return list(pq.read_schema(file).names)
        return _header(_text(file), contract)


def _read(contract: Contract) -> pa.Table:
    with _opened(contract) as file:
        if contract.source.file_format == "parquet":
            table = pq.read_table(file, columns=_wanted(contract))
            return pa.table({name: plain_column(table[name]) for name in _wanted(contract)})
        return _read_csv(_text(file), contract)


def _text(file: IO[bytes]) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="backslashreplace")


def _header(lines: io.TextIOWrapper, contract: Contract) -> list[str]:
    return [name.strip() for name in next(csv.reader([lines.readline()], delimiter=contract.source.delimiter))]


def _read_csv(lines: io.TextIOWrapper, contract: Contract) -> pa.Table:
    """Every cell as text: a type inferred from a column would depend on all of its cells."""
    csv.field_size_limit(_LONGEST_CELL)
    names = _header(lines, contract)
    wanted = _wanted(contract)
    positions = [names.index(name) for name in wanted]
    nulls, delimiter = frozenset(contract.source.null_values), contract.source.delimiter
    cells: list[list[str | None]] = [[] for _ in wanted]
    for line in lines:
        try:
            record = next(csv.reader((line,), delimiter=delimiter))
        except (csv.Error, StopIteration):
            continue
        if len(record) != len(names):
            continue
        for column, position in zip(cells, positions, strict=True):
            cell = record[position].strip()
            column.append(None if cell in nulls else cell)
    return pa.table({name: pa.array(column, pa.string()) for name, column in zip(wanted, cells, strict=True)})
