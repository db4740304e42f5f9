"""A neighbouring table differs in one row of one branch, whatever its cells hold and however the file is spoilt."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth import source
from synth.errors import ContractError, SourceUnavailable
from synth.records import HOLDOUT, TRAIN
from synth.schema import Schema
from synth.source import Snapshot, check_columns, holdout_mask, read_snapshot, rows_kept
from tests.chance import ALPHA, rate_p
from tests.example_contract import contract
from tests.sealed import TOKEN

KEY = b"k" * 32
HEADER = ["person", "age", "city", "ill"]
Row = tuple[str | None, ...]


def declared(path: Path, *, by_row: bool = False) -> Any:
    """Three declared columns; a person a unit, or a row a unit."""
    return contract(
        {
            "source": {"uri": str(path)},
            "privacy.unit": "row" if by_row else {"column": "person"},
            "schema": {
                "age": {"type": "integer", "min": 0, "max": 99, "nullable": True},
                "city": {"type": "categorical", "categories": ["Bern", "Graz"], "nullable": True},
                "ill": {"type": "boolean"},
            },
        }
    )


def read(path: Path, *, by_row: bool = False) -> Snapshot:
    chosen = declared(path, by_row=by_row)
    return read_snapshot(chosen, Schema.from_contract(chosen), split_key=KEY, holdout_fraction=0.3)


def snapshot(rows: list[Row], *, by_row: bool = False, as_csv: bool = False) -> Snapshot:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("t.csv" if as_csv else "t.parquet")
        if as_csv:
            lines = [",".join(HEADER), *(",".join(cell or "" for cell in row) for row in rows)]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        else:
            columns = list(zip(*rows, strict=True)) or [()] * len(HEADER)
            named = zip(HEADER, columns, strict=True)
            pq.write_table(pa.table({name: pa.array(cells, pa.string()) for name, cells in named}), path)
        return read(path, by_row=by_row)


def branches(taken: Snapshot) -> Counter:
    """Rows of both branches with how often they occur."""
    rows: Counter = Counter()
    for branch, frame in ((name, taken.records(name).parsed) for name in (TRAIN, HOLDOUT)):
        for row in frame.itertuples(index=False):
            rows[branch, *(None if pd.isna(cell) else cell for cell in row)] += 1
    return rows


def check_one_row_moves(rows: list[Row], extra: Row, position: int, *, by_row: bool) -> None:
    """Adding ``extra`` anywhere adds one row to one branch and changes nothing else."""
    smaller = branches(snapshot(rows, by_row=by_row))
    larger = branches(snapshot([*rows[:position], extra, *rows[position:]], by_row=by_row))
    assert not smaller - larger
    assert (larger - smaller).total() == 1


def check_never_more_than_one_row(rows: list[Row], extra: Row) -> None:
    """A further row of a person who is there may replace that person's kept row, and no other."""
    smaller, larger = branches(snapshot(rows)), branches(snapshot([extra, *rows]))
    assert (smaller - larger).total() == (larger - smaller).total() <= 1


AGES = st.one_of(st.none(), st.sampled_from(["1", "1.0", " 7", "200", "nan", "x", "9" * 30]))
CITIES = st.one_of(st.none(), st.sampled_from(["Bern", "Graz ", "Ulm", "\x1f", "\x1e", "\\"]), st.text(max_size=3))
ILL = st.sampled_from(["true", "0", None, "?"])
NAMES = st.one_of(st.integers(0, 99).map(str), st.text(min_size=1, max_size=4).filter(lambda t: t.strip()))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_adding_a_person_adds_one_row_to_one_branch(data: st.DataObject) -> None:
    names = data.draw(st.lists(NAMES, unique_by=str.strip, min_size=1, max_size=8))
    people = [(name, data.draw(AGES), data.draw(CITIES), data.draw(ILL)) for name in names]
    extra = people.pop()
    check_one_row_moves(people, extra, data.draw(st.integers(0, len(people))), by_row=False)


@given(st.lists(st.tuples(NAMES, AGES, CITIES, ILL), min_size=1, max_size=8), st.integers(0, 7), st.booleans())
@settings(max_examples=60, deadline=None)
def test_adding_a_row_adds_one_row_to_one_branch_though_it_be_a_copy(
    rows: list[Row], position: int, copied: bool
) -> None:
    extra = rows[0] if copied else rows.pop()
    check_one_row_moves(rows, extra, min(position, len(rows)), by_row=True)


TABLE: list[Row] = [(f"p{i}", str(i % 3), "Bern", "1") for i in range(60)]


def test_a_split_by_position_moves_other_peoples_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin of the two tests above."""
    by_name = source.holdout_mask
    positions: Callable[..., Any] = lambda units, key, fraction: by_name(np.arange(len(units)), key, fraction)  # noqa: E731
    for by_row in (True, False):
        check_one_row_moves(TABLE, ("new", "5", "Graz", "0"), 0, by_row=by_row)
    monkeypatch.setattr(source, "holdout_mask", positions)
    for by_row in (True, False):
        with pytest.raises(AssertionError):
            check_one_row_moves(TABLE, ("new", "5", "Graz", "0"), 0, by_row=by_row)


def test_a_split_by_content_alone_keeps_all_copies_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies are units of their own: they go to both branches."""
    copies: list[Row] = [("p", "1", "Bern", "1")] * 200
    both = {branch for branch, *_ in branches(snapshot(copies, by_row=True))}
    assert both == {"train", "holdout"}
    monkeypatch.setattr(source, "_row_units", lambda texts: texts)
    assert len({branch for branch, *_ in branches(snapshot(copies, by_row=True))}) == 1


def test_a_person_stays_in_one_branch_in_every_run_and_in_every_format() -> None:
    first = branches(snapshot(TABLE))
    assert first == branches(snapshot(TABLE[::-1])) == branches(snapshot(TABLE, as_csv=True))
    renamed = [(f" {name} ", *rest) for name, *rest in TABLE]
    assert first == branches(snapshot(renamed))


def test_rows_without_a_unit_are_dropped() -> None:
    rows = [*TABLE, (None, "1", "Bern", "1"), ("", "1", "Bern", "1"), ("  ", "1", "Bern", "1")]
    assert branches(snapshot(rows)) == branches(snapshot(TABLE))


def test_one_row_of_each_unit_is_kept() -> None:
    rows = [("a", str(i), None, "1") for i in range(9)] + [("b", "50", None, "0")]
    kept = branches(snapshot(rows))
    assert kept.total() == 2
    check_never_more_than_one_row([("a", "3", None, "1"), ("b", "50", None, "0")], ("a", "4", None, "1"))


def check_kept_uniformly(choose: Callable[[Any], Any]) -> None:
    """Which of five rows is kept, over 4,000 units that have five each and 4,000 that have one."""
    units = np.array([f"u{i // 5}" for i in range(20_000)] + [f"v{i}" for i in range(4000)], dtype=object)
    shuffled = np.random.default_rng(1).permutation(len(units))
    kept = shuffled[choose(units[shuffled])]
    assert len(kept) == 8000
    assert len(set(units[kept])) == 8000
    for place in range(5):
        assert rate_p(int(((kept < 20_000) & (kept % 5 == place)).sum()), 4000, 0.2) >= ALPHA / 5


def check_kept_whatever_the_order(choose: Callable[[Any], Any]) -> None:
    """The first of a unit's rows is kept as often as the others."""
    units = np.array([f"u{i // 4}" for i in range(20_000)], dtype=object)
    assert rate_p(int((choose(units) % 4 == 0).sum()), 5000, 0.25) >= ALPHA


def keeps_the_first(units: Any) -> Any:
    return np.sort(pd.Series(units).drop_duplicates().index.to_numpy())


@pytest.mark.statistical
def test_the_kept_row_is_chosen_uniformly() -> None:
    """Fails once in 500,000 runs."""
    check_kept_uniformly(lambda units: rows_kept(units, 1))
    check_kept_whatever_the_order(lambda units: rows_kept(units, 1))


def test_keeping_the_first_row_is_caught() -> None:
    with pytest.raises(AssertionError):
        check_kept_whatever_the_order(keeps_the_first)


def test_a_row_beyond_the_cap_is_caught() -> None:
    with pytest.raises(AssertionError):
        check_kept_uniformly(lambda units: np.arange(len(units)))


def check_share(mask: Any, fraction: float) -> None:
    assert rate_p(int(mask.sum()), len(mask), fraction) >= ALPHA


@pytest.mark.statistical
@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5])
def test_the_holdout_has_its_declared_share(fraction: float) -> None:
    """Of 20,000 units under a random key: fails once in a million runs."""
    units = np.array([f"unit {i}" for i in range(20_000)], dtype=object)
    key = np.random.default_rng().bytes(32)
    check_share(holdout_mask(units, key, fraction), fraction)
    with pytest.raises(AssertionError):
        check_share(holdout_mask(units, key, fraction * 1.4), fraction)


def test_another_key_splits_otherwise() -> None:
    units = np.array([f"unit {i}" for i in range(500)], dtype=object)
    assert (holdout_mask(units, b"a" * 32, 0.5) != holdout_mask(units, b"b" * 32, 0.5)).any()


GOOD_LINES = [f"p{i},{i % 90},Bern,1".encode() for i in range(40)]
SPOILT = {
    "a stray quote": b'p99,"5,Bern,1',
    "a quote that is never closed at the end": b'p99,5,Bern,"1',
    "quotes inside": b'p99,5,B"er"n,1',
    "too few fields": b"p99,5,Bern",
    "too many fields": b"p99,5,Bern,1,1",
    "bad UTF-8": b"p99,5,B\xffrn\xc3,1",
    "cut UTF-8 at the end": b"p99,5,Bern,1\xe2\x82",
    "a NUL": b"p99,5,B\x00rn,1",
    "an empty line": b"",
    "a carriage return inside": b"p99,5\r,Bern,1",
    "a form feed and a line separator": "p99,5,B\x0c\u2028\x85n,1".encode(),
    "a very long cell": b"p99,5," + b"x" * (1 << 21) + b",1",
    "a quoted newline": b'p99,"5\n",Bern,1',
    "a byte order mark": b"\xef\xbb\xbfp99,5,Bern,1",
}


@pytest.mark.parametrize("line", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("position", [0, 17, 40])
@pytest.mark.parametrize("by_row", [False, True], ids=["people", "rows"])
def test_a_spoilt_line_changes_no_other_record(tmp_path: Path, line: bytes, position: int, by_row: bool) -> None:
    path = tmp_path / "t.csv"
    header = ",".join(HEADER).encode()
    path.write_bytes(b"\n".join([header, *GOOD_LINES]) + b"\n")
    clean = branches(read(path, by_row=by_row))
    path.write_bytes(b"\n".join([header, *GOOD_LINES[:position], line, *GOOD_LINES[position:]]) + b"\n")
    spoilt = branches(read(path, by_row=by_row))
    assert clean.total() == 40
    assert not clean - spoilt
    assert (spoilt - clean).total() <= 1


def test_the_last_line_needs_no_newline_and_windows_lines_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    wanted = branches(snapshot([("a", "1", "Bern", "1"), ("b", "2", None, "0")]))
    for end in ("\n", "\r\n"):
        for last in ("", end):
            path.write_bytes(("\ufeff" + end.join([",".join(HEADER), "a,1,Bern,1", "b,2,NA,0"]) + last).encode())
            assert branches(read(path)) == wanted


def test_quoted_cells_other_delimiters_and_column_orders_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('ill;extra;"age";person;city\n1;"a;b";7;"x ";"Bern"\n')
    chosen = declared(path).model_copy(update={"source": declared(path).source.model_copy(update={"delimiter": ";"})})
    taken = read_snapshot(chosen, Schema.from_contract(chosen), split_key=KEY, holdout_fraction=0.3)
    assert [row[1:] for row in branches(taken)] == [(7.0, "Bern", 1.0)]


@pytest.mark.parametrize("as_csv", [False, True], ids=["parquet", "csv"])
@pytest.mark.parametrize("by_row", [False, True], ids=["people", "rows"])
def test_a_table_without_rows_has_empty_branches(as_csv: bool, by_row: bool) -> None:
    taken = snapshot([], as_csv=as_csv, by_row=by_row)
    assert len(taken.records(TRAIN).parsed) == len(taken.records(HOLDOUT).parsed) == len(taken.frame) == 0
    assert list(taken.frame.columns) == ["age", "city", "ill"]


def test_everyone_is_both_branches() -> None:
    taken = snapshot(TABLE)
    everyone = taken.sealed(TRAIN, HOLDOUT).open(TOKEN).parsed
    assert len(everyone) == len(taken.records(TRAIN).parsed) + len(taken.records(HOLDOUT).parsed) == 60


def test_a_missing_or_ambiguous_column_is_found_without_a_look_at_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("person,age,age,ill\nSECRET,SECRET\n")
    with pytest.raises(ContractError, match="no column 'city'") as caught:
        check_columns(declared(path))
    assert "SECRET" not in str(caught.value)
    path.write_text("person,age,age,ill,city\n")
    with pytest.raises(ContractError, match="more than one column 'age'"):
        check_columns(declared(path))
    path.write_text("person,age,ill,city\n")
    check_columns(declared(path))


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "missing.csv", "missing.parquet"])
def test_errors_never_hold_what_the_file_holds(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if not name.startswith("missing"):
        path.write_bytes(b"PAR1 SECRET-CELL,SECRET-CELL\nSECRET-CELL")
    for action in (check_columns, lambda _: read(path)):
        with pytest.raises((SourceUnavailable, ContractError)) as caught:
            action(declared(path))
        shown, error = "", caught.value
        while error is not None:
            shown += str(error) if not isinstance(error, ContractError) else ""
            error = error.__cause__ or error.__context__  # type: ignore[assignment]
        assert "SECRET-CELL" not in shown


def test_a_parquet_file_with_bytes_that_are_not_text_is_read(tmp_path: Path) -> None:
    """One person's cell must not fail the run for everybody."""
    path = tmp_path / "t.parquet"
    spoilt = pa.array([b"Bern", b"B\xffrn"], pa.binary()).view(pa.string())
    columns = {"person": ["a", "b"], "age": [1, 2], "city": spoilt, "ill": [True, False]}
    pq.write_table(pa.table(columns), path)
    assert branches(read(path)).total() == 2
