"""What a process that carries out steps shows of itself and leaves behind: alive, killed and crashed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synth import steps
from tests.conftest import MIXTURE, Deployment
from tests.leaks.conftest import Watch, Watched
from tests.leaks.planted import CATEGORY, ID, NUMBER, PLANTED, contents, holding

NAMES = [step.__name__ for step in steps.STEPS]
_OTHERS = ("/dev/null", "/dev/urandom", "/proc/", "/sys/")


@pytest.mark.parametrize("method", [{}, MIXTURE], ids=["independent", "mixture"])
def test_a_whole_run_with_every_logger_speaking_shows_and_leaves_nothing(
    leaky: Deployment, watch: Watch, method: dict[str, Any]
) -> None:
    """Both streams, log lines, warnings, progress, facts, arguments, environment, files, their names and cells."""
    run = leaky.run(**method)
    steps.preflight(run)
    steps.allocate(run)
    watched = watch(run, [*NAMES, "settle"])
    assert watched.process.wait(180) == 0, (watched.folder / "output").read_text()[-3000:]
    told = watched.report
    assert [line["step"] for line in told if "step" in line] == [*NAMES, "settle"]
    assert sum("progress" in line for line in told) > 10
    assert "DEBUG" in (watched.folder / "output").read_text()
    assert watched.temporary == []
    private = leaky.folder / "people.csv"
    seen = [*contents(watched.folder), *contents(leaky.folder, but=[private])]
    names = " ".join(name for name, _ in seen)
    for expected in ("ledger.db (entries)", "part-00000.parquet (cells)", "seen/people/", "output", "report"):
        assert expected in names
    assert holding(seen) == []
    # The search can find: all of it is in the table.
    assert {value for _, value in holding(contents(leaky.folder))} == set(PLANTED)
    elsewhere = [
        path
        for path in next(line["opened"] for line in told if "opened" in line)
        if not path.startswith((str(leaky.folder), str(watched.folder), *_OTHERS)) and not path.isdigit()
    ]
    assert elsewhere == []


def test_cells_of_a_snapshot_are_found_by_the_same_search(leaky: Deployment) -> None:
    """The broken twin of the test above: a run that is not settled, whose snapshot could be read."""
    run = leaky.run()
    for step in steps.STEPS[:3]:
        step(run)
    if (run.workspace.root / "private").is_dir():
        run.workspace.write_frame("public/copy.parquet", run.workspace.read_frame("private/snapshot.parquet"))
    private = leaky.folder / "people.csv"
    assert NUMBER in {value for _, value in holding(contents(leaky.folder, but=[private]))}


@pytest.mark.parametrize(
    ("step", "moment", "method"),
    [
        ("validate", "os:link", {}),
        ("train", "progress", {}),
        ("train", "progress", MIXTURE),
        ("check", "synth.steps:build_bundle", {}),
        ("publish", "os:rename", {}),
    ],
)
def test_a_killed_step_leaves_rows_in_the_workspace_alone_and_settling_erases_them(
    leaky: Deployment, watch: Watch, step: str, moment: str, method: dict[str, Any]
) -> None:
    run = leaky.run(**method)
    for name in NAMES[: NAMES.index(step)]:
        getattr(steps, name)(run)
    watched = watch(run, [step], moment=moment)
    watched.reaches(moment)
    watched.process.kill()
    assert watched.process.wait(20) == -signal.SIGKILL
    assert watched.temporary == []
    private = run.workspace.root / "private"
    rows = [path for path in private.rglob("*") if path.is_file()]
    assert bool(rows) == (step in ("validate", "train", "check"))
    outside = [*contents(watched.folder), *contents(leaky.folder, but=[leaky.folder / "people.csv", *rows])]
    assert holding(outside) == []
    steps.settle(leaky.run(**method))
    assert list(private.iterdir()) == []
    assert holding(contents(leaky.folder, but=[leaky.folder / "people.csv"])) == []


@pytest.fixture
def crashed(leaky: Deployment, watch: Watch) -> Iterator[list[Watched]]:
    """A process that crashes in training as it is, and one whose steps do nothing about core files."""
    run = leaky.run()
    for step in steps.STEPS[:3]:
        step(run)
    made = []
    for unprotected in (False, True):
        watched = watch(run, ["train"], moment="progress", crash=True, unprotected=unprotected)
        assert watched.process.wait(120) == -signal.SIGABRT, (watched.folder / "output").read_text()[-3000:]
        made.append(watched)
    yield made
    for watched in made:
        for core in _cores(watched):
            core.unlink()


def test_a_crash_in_training_leaves_no_image_of_the_memory(crashed: list[Watched]) -> None:
    """Its twin without protection leaves one, in which a private row is found, or this test could not fail."""
    protected, unprotected = crashed
    assert "Fatal Python error: Aborted" in (protected.folder / "output").read_text()
    assert holding([("output", (protected.folder / "output").read_bytes())]) == []
    assert _cores(protected) == []
    if not _cores(unprotected):
        pytest.skip("this system writes no core files into the working folder, so their absence says nothing")
    (core,) = _cores(unprotected)
    assert _finds(core, CATEGORY) or _finds(core, ID) or _finds(core, "77777.77")


def test_a_process_that_took_a_step_cannot_be_dumped(leaky: Deployment, watch: Watch) -> None:
    run = leaky.run()
    watched = watch(run, ["preflight"])
    assert watched.process.wait(120) == 0, (watched.folder / "output").read_text()[-3000:]
    assert next(line["dumpable"] for line in watched.report if "dumpable" in line) == 0


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root may change a process's account")
def test_another_process_of_the_same_account_reads_neither_memory_nor_environment(tmp_path: Path) -> None:
    """Its twin without protection is read."""
    program = (
        "import os, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "import ctypes; ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)\n"  # as a process is that was started by the account
        "if sys.argv[1] == 'protected':\n"
        "    keep_memory_from_dumps()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    readable = {}
    for kind in ("protected", "unprotected"):
        with subprocess.Popen(
            [sys.executable, "-c", "from synth.memory import keep_memory_from_dumps\n" + program, kind],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat"]
            place = f"/proc/{process.pid}"
            readable[kind] = [
                subprocess.run([*other, f"{place}/{name}"], check=False, capture_output=True, cwd="/").returncode == 0
                for name in ("environ", "maps")
            ]
            process.communicate(b"")
    assert readable == {"protected": [False, False], "unprotected": [True, True]}


def _cores(watched: Watched) -> list[Path]:
    return list((watched.folder / "place").glob("core*"))


def _finds(path: Path, text: str) -> bool:
    block, overlap = 1 << 24, len(text)
    with path.open("rb") as file:
        tail = b""
        while data := file.read(block):
            if text.encode() in tail + data:
                return True
            tail = data[-overlap:]
    return False
