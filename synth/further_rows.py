"""Further rows from the model of a published release, as many and as conditioned as somebody needs.

They are post-processing of what the release's mechanisms put out, so they share its claim and cost no privacy; and
nothing leaves before approval, so only a run whose release was published has any. The gate has tried the release and
not these rows, which their file says.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synth.assembly import finished_model, rules_of
from synth.constraints.conditions import Condition
from synth.constraints.sampling import Sampler, Wanted
from synth.errors import NotApproved, SamplingRefused
from synth.methods.base import Model
from synth.release import wording
from synth.release.rendering import rounded_up
from synth.release.sample import write_sample
from synth.run import Run
from synth.schema import Schema
from synth.workspace import KEY

_MODEL = "dp/model.safetensors"


@dataclass(frozen=True)
class PublishedModel:
    """The model of a release that is out.

    :ivar published: the ledger's entry of the release.
    """

    model: Model
    published: dict[str, Any]


def published_model(run: Run) -> PublishedModel:
    """The model that a run's release was drawn from.

    :raises NotApproved: if the run has not published.
    :raises SamplingRefused: if its workspace is gone.
    :raises PlanChanged: if the contract is not the one that ran.
    """
    recorded = run.ledger.find(run.policy_name, run.name, "published")
    if recorded is None:
        raise NotApproved(
            f"run {run.name!r} has published no release, and nothing leaves before it is approved and published; name "
            "a run that has, with --run-id"
        )
    root = run.settings.run_folder(run.contract.dataset.name, run.run_id)
    if not (root / KEY).exists() or not (root / _MODEL).exists():
        raise SamplingRefused(
            f"run {run.name!r}: its model is gone, since workspaces are removed {run.settings.workspace_days:g} days "
            f"after a run began (SLUICE_WORKSPACE_DAYS); use the rows at {recorded.payload['uri']}, or start a new run"
        )
    _ = run.plan  # refuses a contract that is not the one that was reserved
    return PublishedModel(finished_model(run), recorded.payload)


def write_further_rows(
    run: Run,
    out: Path,
    *,
    rows: int,
    where: Sequence[str] = (),
    balance: str | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Draw rows into a new Parquet file, and return what its metadata says.

    Every row keeps the contract's constraints. The same seed gives the same rows.

    :param where: conditions, see :meth:`synth.constraints.conditions.Condition.parse`.
    :param balance: a column whose categories get equal shares.
    :raises SamplingRefused: if the model has too few such rows, or the file is there already or cannot be written.
    """
    found = published_model(run)
    seed = secrets.randbits(53) if seed is None else seed
    wanted = Wanted(rules_of(run), Condition.parse(where, run.schema), balance)
    if out.suffix != ".parquet":
        raise SamplingRefused(f"--out {str(out)!r}: accepted: a file that ends in .parquet")
    if out.exists():
        raise SamplingRefused(f"--out {str(out)!r} is there already; name a new file")
    _require_identifiers(run.schema, rows)
    about = _about(run, found, wanted, rows, seed)
    half = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        write_sample(
            half,
            _with_identifiers(found.model.frames(rows, seed, wanted), run.schema, seed),
            run.schema,
            json.dumps(about, ensure_ascii=False),
        )
        os.link(half, out)
    except FileExistsError:
        raise SamplingRefused(f"--out {str(out)!r} is there already; name a new file") from None
    except (FileNotFoundError, NotADirectoryError):
        raise SamplingRefused(f"--out {str(out)!r}: there is no such folder") from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise SamplingRefused(f"--out {str(out)!r} cannot be written: {why}; name a file elsewhere") from None
    finally:
        with suppress(OSError):  # of a folder that is none
            half.unlink(missing_ok=True)
    return about


def _require_identifiers(schema: Schema, rows: int) -> None:
    for name, pattern, _ in schema.identifiers:
        if pattern.possible < rows:
            raise SamplingRefused(
                f"--rows {rows}: the pattern of column {name!r} has {pattern.possible:,} different identifiers; "
                "ask for no more rows than that"
            )


def _with_identifiers(frames: Iterator[pd.DataFrame], schema: Schema, seed: int) -> Iterator[pd.DataFrame]:
    done = 0
    for frame in frames:
        yield schema.with_identifiers(frame, done, seed)
        done += len(frame)


def _about(run: Run, found: PublishedModel, wanted: Wanted, rows: int, seed: int) -> dict[str, Any]:
    """What the file says of itself: the release's claim, and what was asked for."""
    dataset, version = run.contract.dataset.name, found.published["version"]
    epsilon, delta = rounded_up(found.published["epsilon"]), rounded_up(run.plan.delta)
    changed = [*wanted.where.texts, *([f"equal shares of {wanted.balance}"] if wanted.balance else [])]
    notice = (
        f"Differentially private synthetic rows, drawn from the model of release {dataset} {version}. They share its "
        f"claim, (ε, δ) = ({epsilon}, {delta}): drawing further rows is post-processing and costs no privacy. The "
        "quality gate tried the release, not these rows."
    )
    if changed:
        notice += f" Shares were changed on purpose ({'; '.join(changed)}): they are not those of the data."
    document: dict[str, Any] = {
        "notice": notice,
        "dataset": dataset,
        "version": version,
        "release": found.published["uri"],
        "manifest": found.published["manifest"],
        "epsilon": found.published["epsilon"],
        "delta": run.plan.delta,
        "unit": wording.unit(run.contract, run.plan.window),
        "rows": rows,
        "seed": seed,
        "where": list(wanted.where.texts),
        "balance": wanted.balance,
        "constraints": [constraint.text for constraint in run.contract.constraints],
    }
    if changed:
        sampler = Sampler(found.model, wanted)  # type: ignore[arg-type]
        shares = sampler.shares(np.random.default_rng([seed, rows]))
        document["shares_in_the_model"] = {text: float(f"{share:.3g}") for text, share in shares.items()}
    return document
