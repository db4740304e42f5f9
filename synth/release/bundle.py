"""The bundle: every file of a release but the manifest, in a local folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from synth.measurements import MEASUREMENTS
from synth.release.card import card
from synth.release.data import write_parts
from synth.release.facts import ReleaseFacts
from synth.release.manifest import artifact_digest, list_files
from synth.release.noisy_counts import write_measurements
from synth.release.report import report_document, report_html
from synth.release.stamp import notice
from synth.release.statement import statement, statement_markdown


def build_bundle(folder: Path, facts: ReleaseFacts, frames: Iterator[pd.DataFrame]) -> str:
    """Write data, noisy counts, card, statement and report; returns the artifact digest over all of them.

    The same inputs give the same bytes under the same versions of libraries. What needs no rows comes first, so that
    a statement that would not be true is refused before anything is written.

    :param folder: empty or not there yet; one that a crash left half full has to be removed by the caller.
    :param frames: decoded chunks of the released rows, read once.
    :raises ValueError: if the folder holds something, the rows are not as many as the facts say, or the claim is not
        borne out by the plan.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"Expected an empty folder for the bundle, {folder} holds files; remove it and build again.")
    texts = {
        "README.md": card(facts),
        "privacy_statement.json": _json(statement(facts)),
        "privacy_statement.md": statement_markdown(facts),
        "quality_report.json": _json(report_document(facts)),
        "quality_report.html": report_html(facts),
    }
    folder.mkdir(parents=True, exist_ok=True)
    seed = facts.unsafe_seed
    stamped = None if seed is None else notice(seed)
    rows = write_parts(folder / "data", iter(frames), facts.schema, stamped)
    if rows != facts.rows:
        raise ValueError(f"Expected rows={facts.rows} of the release, given {rows}.")
    write_measurements(folder / MEASUREMENTS, facts, stamped)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return artifact_digest(list_files(folder))


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
