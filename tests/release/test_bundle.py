"""What a bundle holds: data that comes back as it was, a card that the hub reads, a page that stands alone."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import yaml

from synth.release.bundle import build_bundle
from synth.release.card import card, front_matter
from synth.release.manifest import list_files
from synth.release.rendering import rounded_up
from synth.release.report import report_html
from tests.release.conftest import ODD, Release


def test_columns_come_back_in_pandas_with_their_types(release: Release) -> None:
    frame = pd.read_parquet(release.folder / "data")
    assert frame.dtypes.astype(str).to_dict() == {
        "site": "category",
        "plan": "Int64",
        "smoker": "boolean",
        "age": "float64",
        "visits": "Int64",
        "ill": "bool",
    }
    assert list(frame["site"].cat.categories) == ["north", "south", ODD]
    stated = json.loads((release.folder / "privacy_statement.json").read_text())["columns"]
    assert {column["name"]: column["stored_as"] for column in stated} == frame.dtypes.astype(str).to_dict()


def test_values_come_back_as_they_were(release: Release) -> None:
    written = pd.concat(release.frames, ignore_index=True)
    frame = pd.read_parquet(release.folder / "data")
    assert len(frame) == release.facts.rows
    assert frame["plan"].isna().any()
    for name in frame:
        assert (
            frame[name].astype(object).fillna("null").tolist() == written[name].astype(object).fillna("null").tolist()
        )


def test_large_data_are_split_into_parts_of_whole_chunks(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synth.release.data._PART_ROWS", 700)
    whole = pd.concat(release.frames, ignore_index=True)
    build_bundle(tmp_path / "b", release.facts, (whole[i : i + 300] for i in range(0, 1500, 300)))
    parts = sorted(path.name for path in (tmp_path / "b" / "data").iterdir())
    assert parts == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert len(pd.read_parquet(tmp_path / "b" / "data")) == 1500


def test_the_same_release_is_the_same_bytes(release: Release, tmp_path: Path) -> None:
    build_bundle(tmp_path / "again", release.facts, iter(release.frames))
    assert list_files(tmp_path / "again") == list_files(release.folder)


def test_a_folder_that_holds_something_is_left_alone(release: Release, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="holds files"):
        build_bundle(tmp_path, release.facts, iter(release.frames))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_wrong_number_of_rows_is_refused(release: Release, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected rows=1500"):
        build_bundle(tmp_path / "b", release.facts, iter([release.frames[0][:10]]))


def test_a_claim_that_is_not_borne_out_writes_nothing(release: Release, tmp_path: Path) -> None:
    budget = replace(release.facts.budget, epsilon_release=0.1)
    with pytest.raises(ValueError, match="would not be true"):
        build_bundle(tmp_path / "b", replace(release.facts, budget=budget), iter(release.frames))
    assert not (tmp_path / "b").exists()


def test_the_cards_front_matter_is_what_the_hub_reads(release: Release) -> None:
    text = (release.folder / "README.md").read_text(encoding="utf-8")
    matter = yaml.safe_load(text.split("---\n")[1])
    assert matter["license"] == "cc-by-4.0"
    assert matter["tags"] == ["synthetic", "differential-privacy", "tabular"]
    assert matter["size_categories"] == ["1K<n<10K"]
    assert matter["configs"] == [{"config_name": "default", "data_files": "data/*.parquet"}]
    assert matter["task_categories"] == ["tabular-classification"]


def test_the_card_loads_the_rows_with_the_hub_s_own_library(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset
    from huggingface_hub import DatasetCard

    loaded = load_dataset(str(release.folder), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    frame = loaded["train"].to_pandas()
    assert len(frame) == release.facts.rows
    expected = pd.read_parquet(release.folder / "data")
    assert frame["visits"].astype("Int64").equals(expected["visits"])
    assert frame["site"].tolist() == expected["site"].astype(object).tolist()
    card = DatasetCard.load(release.folder / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.configs == [{"config_name": "default", "data_files": "data/*.parquet"}]


def test_a_licence_the_hub_does_not_know_is_given_by_name(release: Release) -> None:
    contract = release.facts.contract
    dataset = contract.dataset.model_copy(update={"licence": "House rules: no sale", "title": "a: b # {c}"})
    matter = front_matter(contract.model_copy(update={"dataset": dataset}), 2_000_000)
    assert (matter["license"], matter["license_name"]) == ("other", "house-rules-no-sale")
    assert yaml.safe_load(yaml.safe_dump(matter)) == matter
    assert matter["size_categories"] == ["1M<n<10M"]


def test_the_card_says_the_claim_and_what_the_data_are_not_good_for(release: Release) -> None:
    text = (release.folder / "README.md").read_text(encoding="utf-8")
    assert f"ε = {rounded_up(release.facts.budget.epsilon_release)}, δ = 1e-05" in text
    assert "pairs of features are not kept" in text
    assert "before selection by the gate" in text
    assert "0.580 to 0.660" in text


def test_the_card_s_claim_names_the_window(release: Release) -> None:
    facts = release.facts
    headline = "one unit with all of its rows{}, add or remove one.**"
    assert headline.format("") in card(facts)
    assert headline.format(" of the window 2026-Q3") in card(replace(facts, plan=replace(facts.plan, window="2026-Q3")))


def test_text_of_the_contract_stays_text(release: Release) -> None:
    page = (release.folder / "quality_report.html").read_text(encoding="utf-8")
    assert "<b>odd" not in page
    assert "<i>the practice" not in page
    assert "&lt;b&gt;odd" in page
    for name in ("README.md", "privacy_statement.md"):
        text = (release.folder / name).read_text(encoding="utf-8")
        assert r"Visits to \<i\>the practice\</i\>" in text
        assert r"\<b\>odd\|one\</b\> \$x\$" in text


class _References(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "iframe", "img", "object", "embed", "base"):
            self.found.append(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]


def test_the_report_refers_to_nothing_outside_of_itself(release: Release) -> None:
    page = (release.folder / "quality_report.html").read_text(encoding="utf-8")
    references = _References()
    references.feed(page)
    assert all(reference.startswith("#") for reference in references.found)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))
    assert "http" not in page
    assert "@import" not in page
    names = re.findall(r' id="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert {reference[1:] for reference in references.found} <= set(names)


def test_no_chart_has_a_colour_that_dark_mode_cannot_change(release: Release) -> None:
    page = (release.folder / "quality_report.html").read_text(encoding="utf-8")
    charts = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    others = ("scale", "heat map")
    of_groups = sum(len(own.groups) + len(["scale"]) for own in release.facts.subgroups)
    measured = len(release.facts.schema.columns) + len(release.facts.measurements)
    assert len(charts) == measured + of_groups + len(others)
    for chart in charts:
        assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", chart)) <= {
            "none", *(f"var(--{name})" for name in ("ink", "muted", "line", "accent", "warm", "heat"))
        }  # fmt: skip


def test_subgroups_are_told_one_by_one_and_those_that_are_too_small_by_name(release: Release) -> None:
    document = json.loads((release.folder / "quality_report.json").read_text())["subgroups"]
    site, smoker = document["columns"]
    assert [group["label"] for group in site["groups"]] == ["north", "south", ODD]
    assert [group["label"] for group in smoker["groups"]] == ["false", "true", "null"]
    assert not site["groups"][0]["accuracy"]["gradient_boosting"]["enough_records"]
    assert site["groups"][1]["accuracy"]["gradient_boosting"]["enough_records"]
    page = (release.folder / "quality_report.html").read_text(encoding="utf-8")
    (of_site,) = re.findall(r"<thead><tr><th>site</th>.*?</table>", page, flags=re.DOTALL)
    assert of_site.count("not enough records") == 1
    assert "&lt;b&gt;odd|one&lt;/b&gt;" in of_site
    for name in ("README.md", "privacy_statement.md"):
        (line,) = re.findall("Accuracy of gradient boosting by group: .*", (release.folder / name).read_text())
        assert re.search(r"site 0\.\d\d \(.*\) to 0\.\d\d \(.*\), not enough records to say for north; smoker 0", line)


def test_where_no_subgroups_are_declared_none_are_spoken_of(release: Release) -> None:
    facts = replace(release.facts, subgroups=())
    assert "ubgroup" not in card(facts)
    assert "<h2>Subgroups" not in report_html(facts)


def test_the_report_shows_released_shares_against_the_noisy_marginals(release: Release) -> None:
    document = json.loads((release.folder / "quality_report.json").read_text())
    columns = {column["name"]: column for column in document["marginals"]["columns"]}
    assert "null" in columns["plan"]["labels"]
    assert "null" not in columns["site"]["labels"]
    noisy = release.facts.marginals["plan"]
    assert columns["plan"]["noisy_share"] == pytest.approx(list(noisy / noisy.sum()), abs=1e-6)
    released = pd.read_parquet(release.folder / "data")["plan"]
    shares = [(released == value).sum() / 1500 for value in (30, 10, 20)] + [released.isna().mean()]
    assert columns["plan"]["released_share"] == pytest.approx(shares, abs=1e-6)


def test_the_ledger_line_adds_up_to_the_whole_budget(release: Release) -> None:
    ledger = json.loads((release.folder / "quality_report.json").read_text())["ledger"]
    assert sum(ledger.values()) == pytest.approx(1)
    assert ledger["before"] == pytest.approx(ledger["this_release"])


def test_building_warns_of_nothing(release: Release, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_bundle(tmp_path / "b", release.facts, iter(release.frames))
