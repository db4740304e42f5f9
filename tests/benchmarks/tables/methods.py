"""Who releases rows, each in a process of its own: ours, and the peers that can be installed.

Peers live in environments of their own below ``SLUICE_BENCH_ENVS`` (by default build/peers), because their packages
ask for versions that exclude each other. They get the private rows as codes of the shared grid and give codes back,
which the same schema decodes. What did not run is a row too, with its reason.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from tests.benchmarks.common import ROOT
from tests.benchmarks.tables.data import OURS, BenchTable

CAP_S = 600
_SCRIPTS = Path(__file__).resolve().parents[1] / "peers"


@dataclass(frozen=True)
class Released:
    """What came of asking a method for rows.

    :ivar status: ``ok``, or why there are no rows.
    :ivar frame: parsed released rows.
    :ivar facts: seconds and megabytes.
    :ivar direct: the label model's own probabilities for the test rows, where there is one.
    """

    status: str
    frame: pd.DataFrame | None = None
    facts: Mapping[str, float] = field(default_factory=dict)
    direct: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Peer:
    """A method of another package.

    :ivar environment: the folder of its virtual environment.
    :ivar requirements: what to install there; empty where the package registry has no such package.
    :ivar options: what differs from the package's own defaults, and which of its models.
    """

    name: str
    environment: str
    script: str
    requirements: tuple[str, ...]
    options: Mapping[str, Any]

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return Path(os.environ.get("SLUICE_BENCH_ENVS") or ROOT / "build" / "peers") / self.environment / "bin/python"

    @property
    def missing(self) -> str:
        """Why it cannot run, with the remedy; empty if it can."""
        if not self.requirements:
            return f"not installed: {self.environment} is in no package registry"
        if self.python.exists():
            return ""
        folder = self.python.parents[1]
        return (
            f"not installed: uv venv {folder} && uv pip install --python {self.python} --torch-backend cpu "
            + " ".join(f"'{requirement}'" for requirement in self.requirements)
        )


_DPMM = ("dpmm==0.1.9",)
_OPENDP = ("opendp[mbi,polars]==0.16.0", "pandas")
_SMARTNOISE = ("smartnoise-synth==1.0.8",)

# Private-PGM's authors say of AIM by its defaults (80 MB, 1,000 iterations) that it may take hours; dpmm's runs with a
# model of 4 MB and 500 iterations, so that one AIM ends. The other two run by their defaults, to the cap.
PEERS = (
    Peer("dpmm-mst", "dpmm", "with_dpmm.py", _DPMM, {"model": "mst"}),
    Peer("dpmm-aim", "dpmm", "with_dpmm.py", _DPMM, {"model": "aim", "max_model_size": 4, "n_iters": 500}),
    Peer("opendp-mst", "opendp", "with_opendp.py", _OPENDP, {"algorithm": "MST"}),
    Peer("opendp-aim", "opendp", "with_opendp.py", _OPENDP, {"algorithm": "AIM"}),
    Peer("smartnoise-mst", "smartnoise", "with_smartnoise.py", _SMARTNOISE, {"synthesizer": "mst"}),
    Peer("smartnoise-aim", "smartnoise", "with_smartnoise.py", _SMARTNOISE, {"synthesizer": "aim"}),
    Peer("dpsynth-mst", "dpsynth", "", (), {}),
)


# The baselines that this program has by name; the last two need the extra private-pgm.
OURS_BY_NAME: dict[str, dict[str, Any]] = {
    "sluice-independent": {"name": "independent"},
    "sluice-mst": {"name": "mst"},
    "sluice-aim": {"name": "aim"},
}


def named(name: str, table: BenchTable, epsilon: float, seed: int, cap_s: float = CAP_S) -> Released:
    """One release of a baseline of ours."""
    if name != "sluice-independent" and find_spec("mbi") is None:
        return Released("not installed: pip install 'sluice-dp[private-pgm]'")
    return ours(table, epsilon, seed, OURS_BY_NAME[name], cap_s)


def ours(table: BenchTable, epsilon: float, seed: int, method: dict[str, Any] = OURS, cap_s: float = CAP_S) -> Released:
    """One release with noise of its own; the seed is only that of sampling from the finished model."""
    with TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        contract = table.contract(epsilon, method)
        job = {
            "contract": contract.document(),
            "seed": seed,
            "train": str(table.train_path),
            "test": str(table.test_path),
        }
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "tests.benchmarks.tables.ours", str(folder)]
        status = _run(command, cap_s, {"PYTHONPATH": paths, "SLUICE_BENCH_BUCKET": name})
        if status != "ok":
            return Released(status)
        frame = table.parsed(pq.read_table(folder / "release.parquet").to_pandas())
        return Released(status, frame, _facts(folder), np.load(folder / "direct.npy"))


def peer(chosen: Peer, table: BenchTable, epsilon: float, seed: int, cap_s: float = CAP_S) -> Released:
    """One release of a peer."""
    if chosen.missing:
        return Released(chosen.missing)
    with TemporaryDirectory(prefix="sluice-bench-") as name:
        folder = Path(name)
        job = {
            "sizes": table.peer_sizes(),
            "epsilon": epsilon,
            "delta": table.document["privacy"]["delta"],
            "seed": seed,
            "rows": table.rows,
            "options": dict(chosen.options),
        }
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        np.save(folder / "codes.npy", table.peer_codes())
        status = _run([str(chosen.python), str(_SCRIPTS / chosen.script), name], cap_s, {"PYTHONPATH": ""})
        if status != "ok":
            return Released(status)
        codes = np.load(folder / "release.npy")
        frame = table.parsed(table.schema.decode(codes, np.random.default_rng(seed)))
        return Released(status, frame, _facts(folder))


def over_cap(cap_s: float) -> str:
    """The status of a method that took too long."""
    return f"over the cap of {cap_s:g} s"


def _run(command: Sequence[str], cap_s: float, environment: Mapping[str, str]) -> str:
    """``ok``, or why not. What is over the cap is ended with all that it started."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=cap_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return over_cap(cap_s)
    if process.returncode:
        last = next((line for line in reversed(errors.splitlines()) if line.strip()), "no message")
        return f"failed with exit status {process.returncode}: {last.strip()}"
    return "ok"


def _facts(folder: Path) -> dict[str, float]:
    return dict(json.loads((folder / "facts.json").read_text(encoding="utf-8")))
