"""A deployment with planted values, and a process that is watched while it carries out steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from synth.run import Run
from synth.settings import Settings
from tests.conftest import Deployment
from tests.leaks.planted import plant
from tests.leaks.watched import Request

_ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 120


@dataclass
class Watched:
    """A process, and the folders that are its own: for temporary files, a home, and the place it runs in.

    :ivar folder: all of them, and what it wrote on both streams.
    """

    folder: Path
    process: subprocess.Popen[bytes]
    report_path: Path

    @property
    def report(self) -> list[dict[str, Any]]:
        text = self.report_path.read_text(encoding="utf-8") if self.report_path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    @property
    def temporary(self) -> list[Path]:
        """Files; a library may make an empty folder for itself."""
        return [path for path in (self.folder / "tmp").rglob("*") if not path.is_dir()]

    def reaches(self, moment: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while not any(line.get("reached") == moment for line in self.report):
            assert self.process.poll() is None, (self.folder / "output").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.02)


Watch = Callable[..., Watched]


@pytest.fixture
def leaky(tmp_path: Path) -> Deployment:
    """A deployment whose table holds what was planted; reports are laid out for approvers."""
    made = Deployment(tmp_path / "deployment")
    made.folder.mkdir()
    made.settings = Settings(made.settings.ledger_url, made.folder / "runs", made.folder / "keys", made.folder / "seen")
    plant(made)
    made.register()
    return made


@pytest.fixture(autouse=True)
def contracts_name_the_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test_folder: None) -> None:
    monkeypatch.setenv("SLUICE_TEST_FOLDER", str(tmp_path / "deployment"))


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """Starts a watched process that carries out steps of a run."""

    def start(run: Run, steps: list[str], **options: Any) -> Watched:
        folder = tmp_path / f"watched-{len(list(tmp_path.glob('watched-*')))}"
        for name in ("tmp", "home", "place"):
            (folder / name).mkdir(parents=True)
        settings = {name: str(getattr(run.settings, name)) for name in ("ledger_url", "workspaces", "keys", "reports")}
        report = folder / "report"
        request = Request(run.contract.document(), run.run_id, settings, steps, str(report), **options)
        environment = os.environ | {
            "TMPDIR": str(folder / "tmp"),
            "HOME": str(folder / "home"),
            "PYTHONPATH": str(_ROOT),
            "PYTHONWARNINGS": "always",
            "OMP_NUM_THREADS": "1",
        }
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.leaks.watched", str(request.write(folder / "request"))],
                env=environment,
                cwd=folder / "place",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return Watched(folder, process, report)

    return start
