"""The dataset card (``README.md``), in the form that the Hugging Face hub reads."""

from __future__ import annotations

import re
from typing import Any

import yaml

from synth.contract import Contract
from synth.release import method_words, wording
from synth.release.facts import ReleaseFacts
from synth.release.rendering import one_line, render
from synth.release.stamp import stamp
from synth.release.statement import statement

# The hub's identifiers for licences that data comes under; any other is given as "other" with its name.
_HUB_LICENCES = frozenset({
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0",
    "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0",
    "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "odc-by", "odbl", "pddl", "etalab-2.0",
    "gpl-3.0", "agpl-3.0", "lgpl-3.0", "mpl-2.0", "unlicense",
})  # fmt: skip
_SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
)  # fmt: skip


def card(facts: ReleaseFacts) -> str:
    """The card: YAML front matter, then what the release is good for, what it is not, and what is claimed."""
    matter = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True, width=1_000)
    if facts.unsafe_seed is not None:
        return f"---\n{matter}---\n\n{render('not_private.md.jinja', s=statement(facts))}"
    body = render(
        "card.md.jinja",
        s=statement(facts),
        title=one_line(facts.contract.dataset.title),
        description=facts.contract.dataset.description.strip(),
        quality_text=wording.QUALITY,
        example=_example(facts),
        good_for=method_words.good_for(facts.contract),
        not_good_for=method_words.not_good_for(facts.contract),
        year=facts.created_at[:4],
    )
    return f"---\n{matter}---\n\n{body}"


def _example(facts: ReleaseFacts) -> str:
    """A condition on the first target, or on the first column, as Python writes it."""
    column = facts.schema[(*facts.schema.targets, *facts.schema.names)[0]]
    if column.is_numeric:
        return repr({column.name: (column.lower[0], column.upper[-1])})
    return repr({column.name: True if column.kind == "boolean" else column.categories[0]})


def _front_matter(facts: ReleaseFacts) -> dict[str, Any]:
    matter = front_matter(facts.contract, facts.rows)
    if facts.unsafe_seed is None:
        return matter
    return {**stamp(facts.unsafe_seed), **matter, "tags": ["synthetic", "not-private", "tabular"]}


def _task_categories(contract: Contract) -> dict[str, list[str]]:
    names = {"regression": "tabular-regression"}
    found = sorted({names.get(target.kind, "tabular-classification") for target in contract.task.wanted})
    return {"task_categories": found} if found else {}


def front_matter(contract: Contract, rows: int) -> dict[str, Any]:
    """The hub's metadata."""
    given = one_line(contract.dataset.licence)
    known = re.sub(r"[^a-z0-9.]+", "-", given.lower()).strip("-")
    licence = {"license": known} if known in _HUB_LICENCES else {"license": "other", "license_name": known}
    return {
        **licence,
        "pretty_name": one_line(contract.dataset.title),
        "annotations_creators": ["machine-generated"],
        "tags": ["synthetic", "differential-privacy", "tabular"],
        "size_categories": [next((name for limit, name in _SIZES if rows < limit), "1B<n<10B")],
        **_task_categories(contract),
        "configs": [{"config_name": "default", "data_files": "data/*.parquet"}],
    }
