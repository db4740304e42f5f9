"""What a release says of its method is true of that structure, in every one of its files."""

from __future__ import annotations

import re
from typing import Any

import pytest

from synth.release import method_words
from synth.release.report import report_document
from synth.release.statement import statement
from tests.example_contract import contract
from tests.release.conftest import Release

TRAINING = r"DP-SGD|Poisson|gradient(?![_ ]boosting)|clip|batch|temperature|opacus|Box and Muller|learning.rate"
PAIRS = r"mixture|label_correction|regression's|`pairs`"


def texts(release: Release) -> dict[str, str]:
    names = ("README.md", "privacy_statement.json", "privacy_statement.md", "quality_report.json")
    page = (release.folder / "quality_report.html").read_text(encoding="utf-8").split("</style>")[1]
    visible = {"quality_report.html": re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)}
    return visible | {name: (release.folder / name).read_text(encoding="utf-8") for name in names}


def test_no_file_of_a_mixture_speaks_of_training_by_noisy_gradients(mixture_release: Release) -> None:
    found = {name: re.findall(f"(?i){TRAINING}", text) for name, text in texts(mixture_release).items()}
    assert {name: words for name, words in found.items() if words} == {}


def test_no_file_of_independent_features_speaks_of_pairs_that_were_learnt(release: Release) -> None:
    found = {name: re.findall(PAIRS, text) for name, text in texts(release).items()}
    assert {name: words for name, words in found.items() if words} == {}


def test_the_words_that_are_looked_for_are_those_of_the_other_structure(
    release: Release, mixture_release: Release
) -> None:
    assert re.search(TRAINING, texts(release)["privacy_statement.md"])
    assert re.search(PAIRS, texts(mixture_release)["privacy_statement.md"])


def test_a_mixture_names_no_device(mixture_release: Release) -> None:
    used_for = [entry["used_for"] for entry in statement(mixture_release.facts)["randomness"]]
    assert used_for == ["noise of histograms, counts and sums", "the records kept of a unit"]


def test_the_correction_s_sensitivity_is_told_with_what_it_is_of(mixture_release: Release) -> None:
    noise = {m["name"]: m["noise"] for m in statement(mixture_release.facts)["mechanisms"]}
    assert noise["label_correction"]["sensitivity"] == 64
    assert "at most 64" in noise["label_correction"]["added_to"]
    assert (noise["pairs"]["sensitivity"], noise["pairs"]["added_to"]) == (1, "counts")


@pytest.mark.parametrize(
    ("structure", "said", "not_said"),
    [
        ("release", "pairs of features are not kept", "Two columns at a time"),
        ("mixture_release", "three columns together are as pairs imply them", "Correlations, regressions among"),
    ],
)
def test_the_card_says_which_relations_are_kept(
    request: pytest.FixtureRequest, structure: str, said: str, not_said: str
) -> None:
    card = texts(request.getfixturevalue(structure))["README.md"]
    assert said in card
    assert not_said not in card


def test_the_report_says_how_to_read_the_distances_of_pairs(release: Release, mixture_release: Release) -> None:
    by_construction = "independent of each other by construction"
    assert by_construction in texts(release)["quality_report.html"]
    assert by_construction not in texts(mixture_release)["quality_report.html"]


def test_a_column_of_many_cells_is_shown_in_few_bars_that_add_up(mixture_release: Release) -> None:
    facts = mixture_release.facts
    columns = {column["name"]: column for column in report_document(facts)["marginals"]["columns"]}
    age = columns["age"]
    assert facts.schema["age"].cells == age["cells"] > 200
    assert len(age["labels"]) == len(age["noisy_share"]) == len(age["noise_scale"]) <= 100
    assert sum(age["released_share"]) == pytest.approx(1, abs=1e-4)
    assert age["labels"][0].startswith("0")
    assert age["labels"][-1].endswith("100")
    assert "bars" in texts(mixture_release)["quality_report.html"]
    assert len(columns["visits"]["labels"]) == 32  # few enough to be shown one by one, and null


@pytest.mark.parametrize(
    ("changes", "named", "not_named"),
    [
        ({"method": {"name": "mst"}}, {"mbi", "jax"}, {"torch", "opacus"}),
        ({"method": {"name": "aim"}}, {"mbi", "jax"}, {"torch", "opacus"}),
        ({"method": {"name": "independent"}}, set(), {"mbi", "torch"}),
        ({"method": {"name": "dpdsyn"}}, set(), {"mbi", "torch", "opacus"}),
        ({}, {"opacus", "torch"}, {"mbi"}),
    ],
)
def test_the_software_of_a_release_is_what_had_a_part_in_it(
    changes: dict[str, Any], named: set[str], not_named: set[str]
) -> None:
    listed = set(method_words.software(contract(changes)))
    assert {"opendp", "numpy", *named} <= listed
    assert not listed & not_named


def test_no_sums_and_no_correction_are_told_where_every_target_is_measured_by_tables() -> None:
    classes = {"method": {"name": "dpdsyn"}, "task": {"target": "tier", "kind": "multiclass"}}
    for changes, told in ((classes, False), ({"method": {"name": "dpdsyn"}}, True)):
        assert ("sums of weights" in method_words.contribution(contract(changes))) == told
        assert ("correction" in method_words.not_tuned(contract(changes))) == told
