"""The noisy counts in a release are those that the mechanisms released, in full and small; verification checks them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from synth.measurements import MEASUREMENTS, Measurements
from synth.release.facts import PairCounts
from synth.release.noisy_counts import write_measurements
from synth.release.verify import verify_release
from synth.schema import ColumnDomain, Schema
from tests.release.conftest import ODD, Release
from tests.release.test_verify import problems, reseal


@pytest.fixture(scope="session")
def frame(mixture_release: Release) -> pd.DataFrame:
    return pd.read_parquet(mixture_release.folder / MEASUREMENTS)


def test_every_cell_of_every_histogram_is_there_as_it_was_drawn(mixture_release: Release, frame: pd.DataFrame) -> None:
    facts = mixture_release.facts
    for column in facts.schema.columns:
        part = frame[(frame["mechanism"] == "marginals") & (frame["column"] == column.name)]
        assert part["count"].tolist() == facts.marginals[column.name].tolist()
        assert part["cell"].tolist() == list(range(column.size))
        assert set(part["noise_scale"]) == {facts.marginal_sigma}
        if column.is_numeric:
            assert part["lower"].tolist()[:-1] == list(column.lower)
            assert part["upper"].tolist()[:-1] == list(column.upper)
    site, smoker = (frame[(frame["mechanism"] == "marginals") & (frame["column"] == c)] for c in ("site", "smoker"))
    assert site["label"].astype(object).tolist()[:-1] == ["north", "south", ODD]
    assert smoker["label"].astype(object).tolist()[:-1] == ["false", "true"]
    assert smoker["kind"].tolist() == ["category", "category", "null"]


def test_every_pair_s_table_is_there_as_it_was_drawn(mixture_release: Release, frame: pd.DataFrame) -> None:
    facts = mixture_release.facts
    assert facts.pair_counts is not None
    pairs = frame[frame["mechanism"] == "pairs"]
    assert pairs["count"].tolist() == facts.pair_counts.counts.tolist()
    assert set(pairs["noise_scale"]) == {facts.plan.counts("pairs").sigma}
    named = list(dict.fromkeys(zip(pairs["column"], pairs["column_2"], strict=True)))
    assert named == list(combinations(facts.schema.names, 2))


def test_a_histogram_s_cell_tells_which_cell_of_pairs_it_is_in(frame: pd.DataFrame) -> None:
    marginals, pairs = (frame[frame["mechanism"] == name] for name in ("marginals", "pairs"))
    age = marginals[(marginals["column"] == "age") & (marginals["kind"] == "range")]
    table = pairs[(pairs["column"] == "age") & (pairs["column_2"] == "ill")].drop_duplicates("cell").set_index("cell")
    for group, part in age.groupby("group"):
        assert (part["lower"].min(), part["upper"].max()) == (table["lower"][group], table["upper"][group])


def test_independent_features_have_histograms_alone(release: Release) -> None:
    frame = pd.read_parquet(release.folder / MEASUREMENTS)
    assert set(frame["mechanism"]) == {"marginals"}
    assert set(frame["group"]) == {-1}
    assert len(frame) == sum(column.size for column in release.facts.schema.columns)


def test_shares_can_be_asked_of_the_published_file(published_mixture: Path) -> None:
    measured = Measurements.read(published_mixture / MEASUREMENTS)
    released = pd.read_parquet(published_mixture / "data")
    share = measured.share({"site": "north", "ill": True})
    assert share.low < ((released["site"] == "north") & released["ill"]).mean() < share.high
    assert 1200 < measured.rows().low < 1600 < measured.rows().high < 2000


def test_statement_card_and_manifest_name_the_file(mixture_release: Release) -> None:
    assert MEASUREMENTS in [entry["path"] for entry in mixture_release.manifest["files"]]
    stated = json.loads((mixture_release.folder / "privacy_statement.json").read_text())["noisy_counts"]
    assert (stated["file"], stated["mechanisms"]) == (MEASUREMENTS, ["marginals", "pairs"])
    card = (mixture_release.folder / "README.md").read_text()
    assert f"[`{MEASUREMENTS}`]({MEASUREMENTS})" in card
    assert "measured.share({'ill': True})" in card


def test_half_a_million_cells_are_a_small_file_in_several_row_groups(mixture_release: Release, tmp_path: Path) -> None:
    marks = tuple(float(mark) for mark in range(400))
    columns = tuple(ColumnDomain(f"c{i}", "integer", True, marks, marks) for i in range(9))
    groups = np.append(np.repeat(np.arange(120), 4)[:400], 100).astype(np.int32)
    cells = 36 * 101 * 101
    noise = np.random.default_rng(0).normal(0, 40, cells).round().astype(np.int64)
    many = replace(
        mixture_release.facts,
        schema=Schema(columns, "c0"),
        marginals={column.name: noise[: column.size] for column in columns},
        pair_counts=PairCounts({column.name: groups for column in columns}, noise, 40.0),
    )
    write_measurements(tmp_path / MEASUREMENTS, many)
    written = pq.ParquetFile(tmp_path / MEASUREMENTS)
    assert written.metadata.num_rows == cells + 9 * 401 > 350_000
    assert written.num_row_groups >= 3
    assert (tmp_path / MEASUREMENTS).stat().st_size < 2 * cells


def _rewritten(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """A forger's file: changed, of the same layout, sealed again."""
    import pyarrow as pa

    layout = pq.read_schema(folder / MEASUREMENTS)
    changed = change(pq.read_table(folder / MEASUREMENTS).to_pandas())
    pq.write_table(pa.Table.from_pandas(changed, layout, preserve_index=False), folder / MEASUREMENTS)
    reseal(folder)


def test_a_file_that_is_rewritten_as_it_was_has_no_problems(published_mixture: Path) -> None:
    _rewritten(published_mixture, lambda f: f)
    assert not problems(published_mixture)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.assign(noise_scale=f["noise_scale"] / 2), "has another noise scale of 'marginals'"),
        (lambda f: f[f["mechanism"] == "marginals"], "does not hold the tables"),
        (lambda f: f[f["column"] != "site"], "does not hold the tables"),
        (lambda f: f[:-1], "that it should"),
        (lambda f: f[1:], "that it should"),
        (lambda f: f.assign(cell=f["cell"] + 1000), "that it should"),
    ],
)
def test_counts_that_are_not_the_stated_mechanisms_are_found_however_they_are_sealed(
    published_mixture: Path, change: Callable[[pd.DataFrame], pd.DataFrame], said: str
) -> None:
    _rewritten(published_mixture, change)
    assert f"{MEASUREMENTS} " in problems(published_mixture)
    assert said in problems(published_mixture)


def test_a_file_that_is_gone_is_found(published_mixture: Path) -> None:
    (published_mixture / MEASUREMENTS).unlink()
    reseal(published_mixture)
    assert f"names {MEASUREMENTS}, which is not among the files" in problems(published_mixture)


def test_a_file_that_is_none_is_a_problem_and_no_crash(published_mixture: Path) -> None:
    (published_mixture / MEASUREMENTS).write_bytes(b"not parquet")
    reseal(published_mixture)
    assert f"{MEASUREMENTS} cannot be read as Parquet" in problems(published_mixture)
    pd.DataFrame({"a": [1]}).to_parquet(published_mixture / MEASUREMENTS)
    reseal(published_mixture)
    assert "does not have the columns of noisy counts" in problems(published_mixture)


def test_a_sound_release_of_the_structure_mixture_verifies(published_mixture: Path) -> None:
    assert verify_release(str(published_mixture)).problems == ()
