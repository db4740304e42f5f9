"""Whatever is changed in a published release, verification says what; and it never crashes on what it reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from synth.release.manifest import MANIFEST, artifact_digest, list_files, manifest_bytes
from synth.release.verify import verify_release
from tests.release.conftest import approved_manifest

PART = "data/part-00000.parquet"


def problems(folder: Path) -> str:
    """What verification finds, as one text; empty if the release is sound."""
    verification = verify_release(str(folder))
    assert verification.ok == (not verification.problems)
    return "\n".join(verification.problems)


def reseal(folder: Path) -> None:
    """What a forger does: a manifest and an approval that fit the changed files."""
    (folder / MANIFEST).unlink()
    manifest = approved_manifest(folder, artifact_digest(list_files(folder)))
    (folder / MANIFEST).write_bytes(manifest_bytes(manifest))


def edit(folder: Path, change: Callable[[dict[str, Any]], None], name: str = "privacy_statement.json") -> None:
    """Change a JSON file."""
    document = json.loads((folder / name).read_text())
    change(document)
    (folder / name).write_text(json.dumps(document))


def test_a_sound_release_has_no_problems_and_says_its_claim(published: Path) -> None:
    verification = verify_release(str(published))
    assert verification.problems == ()
    assert {"dataset", "version", "epsilon", "delta", "unit", "rows", "approval", "manifest_digest"} <= set(
        verification.facts
    )


def test_one_changed_byte_in_any_file_is_found(published: Path) -> None:
    for path in sorted(path for path in published.rglob("*") if path.is_file() and path.name != MANIFEST):
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        assert f"{path.relative_to(published).as_posix()} is not what the manifest says" in problems(published)
        path.write_bytes(content)
    assert not problems(published)


def test_an_extra_file_is_found(published: Path) -> None:
    (published / "data" / ".part-00001.parquet").write_bytes(b"x")
    assert "data/.part-00001.parquet is not in the manifest" in problems(published)


def test_a_missing_file_is_found(published: Path) -> None:
    (published / PART).unlink()
    assert f"{PART} is missing" in problems(published)
    assert "the data hold 0 rows" in problems(published)


def test_a_folder_without_a_manifest_is_no_release(published: Path) -> None:
    (published / MANIFEST).unlink()
    assert "this is not a release" in problems(published)


def test_an_edited_epsilon_is_found_by_its_digest(published: Path) -> None:
    edit(published, lambda s: s["claim"].update(epsilon=0.5))
    assert "privacy_statement.json is not what the manifest says" in problems(published)


def _claims_less(s: dict[str, Any]) -> None:
    s["claim"].update(epsilon=0.5)


def _forgets_an_attempt(s: dict[str, Any]) -> None:
    next(m for m in s["mechanisms"] if m["name"] == "calibration")["attempts_charged"] = 1


def _halves_the_noise(s: dict[str, Any]) -> None:
    s["mechanisms"][1]["event"]["sigma"] /= 2


def _drops_a_mechanism(s: dict[str, Any]) -> None:
    s["mechanisms"] = [m for m in s["mechanisms"] if m["name"] != "label_model"]


def _sees_one_branch_less(s: dict[str, Any]) -> None:
    s["mechanisms"][0]["branches"] = ["holdout"]


def _lowers_delta(s: dict[str, Any]) -> None:
    s["claim"]["delta"] = 1e-9


@pytest.mark.parametrize(
    "change",
    [_claims_less, _forgets_an_attempt, _halves_the_noise, _drops_a_mechanism, _sees_one_branch_less, _lowers_delta],
)
def test_a_claim_that_its_mechanisms_do_not_bear_out_is_found_however_it_is_sealed(
    published: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    edit(published, change)
    reseal(published)
    assert "its mechanisms compose to" in problems(published)


def test_a_policy_total_that_the_share_does_not_fit_is_found(published: Path) -> None:
    edit(published, lambda s: s["cumulative"].update(policy_epsilon=3.0))
    reseal(published)
    assert "cumulative." in problems(published)


def _write(folder: Path, column: str, value: Any) -> None:
    frame = pd.read_parquet(folder / PART)
    frame[column] = frame[column].astype(object)
    frame.loc[3, column] = value
    kinds = {"site": "category", "plan": "Int64", "visits": "Int64", "age": "float64"}
    frame[column] = frame[column].astype(kinds[column])
    frame.to_parquet(folder / PART, index=False)
    reseal(folder)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("site", "east", "holds a category that is not declared"),
        ("site", None, "holds null, which it must not"),
        ("plan", 15, "holds a category that is not declared"),
        ("visits", 31, "outside of [0, 30]"),
        ("age", -0.5, "outside of [0.0, 100.0]"),
        ("age", 12.34, "more than 1 decimals"),
        ("age", np.nan, "holds null, which it must not"),
    ],
)
def test_a_value_outside_of_the_domain_is_found(published: Path, column: str, value: Any, problem: str) -> None:
    _write(published, column, value)
    assert f"column '{column}' {problem}" in problems(published) or problem in problems(published)


def test_rows_that_are_missing_are_found(published: Path) -> None:
    pd.read_parquet(published / PART)[:-1].to_parquet(published / PART, index=False)
    reseal(published)
    assert "the data hold 1499 rows, the statement says 1500" in problems(published)


def test_another_column_is_found(published: Path) -> None:
    pd.read_parquet(published / PART).assign(name="x").to_parquet(published / PART, index=False)
    reseal(published)
    assert "has the columns" in problems(published)


def test_another_type_is_found(published: Path) -> None:
    pd.read_parquet(published / PART).astype({"age": "float32"}).to_parquet(published / PART, index=False)
    reseal(published)
    assert "column 'age' is stored as float" in problems(published)


def test_an_approval_of_something_else_is_found(published: Path) -> None:
    edit(published, lambda m: m["approval"].update(artifact_digest="0" * 64), MANIFEST)
    assert f"the approval is about artifact {'0' * 64}" in problems(published)


def test_a_missing_approval_is_found(published: Path) -> None:
    edit(published, lambda m: m.pop("approval"), MANIFEST)
    assert "the approval is about artifact None" in problems(published)


def test_a_statement_of_another_version_is_found(published: Path) -> None:
    edit(published, lambda s: s["release"].update(version="v999"))
    reseal(published)
    assert "the manifest about another release" in problems(published)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"statement_version": 1}', '{"statement_version": 1, "claim": 3}']
)
@pytest.mark.parametrize("name", ["privacy_statement.json", MANIFEST])
def test_a_document_of_another_form_is_a_problem_and_no_crash(published: Path, name: str, content: str) -> None:
    (published / name).write_text(content)
    if name != MANIFEST:
        reseal(published)
    assert "does not have the form" in problems(published)


def test_data_that_are_not_parquet_are_a_problem_and_no_crash(published: Path) -> None:
    (published / PART).write_bytes(b"not parquet")
    reseal(published)
    assert "cannot be read as Parquet" in problems(published)


def test_a_manifest_that_points_out_of_the_release_is_not_followed(published: Path) -> None:
    (published.parent / "secret").write_text("x")
    edit(published, lambda m: m["files"].append({"path": "../secret", "bytes": 1, "sha256": "0"}), MANIFEST)
    assert "../secret is missing" in problems(published)


def test_an_address_where_nothing_is_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    assert "this is not a release" in problems(tmp_path / "nowhere")
    assert "cannot be read" in "\n".join(verify_release("nosuch://bucket/x").problems)
