"""One release of ours in a process of its own, with real noise, so that seconds and memory are its own.

The plan is synth's: the method's mechanisms, calibrated together. All training rows are the training branch, as peers
get them all too: no holdout, no validation, no gate. In: a folder with ``job.json`` (contract, seed, test file).
Out: ``release.parquet``, ``facts.json``, and the label model's probabilities for the test rows, ``direct.npy``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synth.contract import Contract, contract_from_document
from synth.methods.base import Synthesizer, synthesizer
from synth.plan import ReleasePlan, make_plan
from synth.progress import silent
from synth.schema import Codes, Schema
from tests.benchmarks.peers.exchange import Meter
from tests.sealed import sealed_codes, uncharged


def main() -> None:
    """Plan, encode, fit, sample; then, no longer measured, ask the label model."""
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    contract = contract_from_document(job["contract"])
    schema = Schema.from_contract(contract)
    method = synthesizer(contract.method)
    meter = Meter()
    plan = meter.timed("plan", lambda: _plan(contract, schema, method))
    codes = meter.timed("encode", lambda: _codes(schema, job["train"]))
    model: Any = meter.timed("fit", lambda: method.fit(sealed_codes(codes), contract, schema, plan, uncharged, silent))
    meter.timed("sample", lambda: _write(model.frames(contract.rows, job["seed"]), folder / "release.parquet"))
    facts = meter.facts()
    facts["fit_s"] += facts["plan_s"]
    (folder / "facts.json").write_text(json.dumps({**facts, "epsilon": plan.epsilon}), encoding="utf-8")
    np.save(folder / "direct.npy", model.probabilities(_codes(schema, job["test"])))


def _plan(contract: Contract, schema: Schema, method: Synthesizer) -> ReleasePlan:
    demands = method.demands(contract, schema, contract.privacy.approximate_units)
    shares = sum(demand.share for demand in demands)
    return make_plan(contract, [replace(demand, share=demand.share / shares) for demand in demands], (), 0.0)


def _codes(schema: Schema, path: str) -> Codes:
    return schema.encode(schema.parse(pq.read_table(path)))


def _write(frames: Any, path: Path) -> None:
    released = pd.concat(list(frames), ignore_index=True)
    pq.write_table(pa.Table.from_pandas(released, preserve_index=False), path)


if __name__ == "__main__":
    main()
