"""``python -m tests.chaos --trials N``: every boundary, and N draws of each kind, on every backend -> chaos.json."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.progress import track

from tests.benchmarks.common import RESULTS, console
from tests.bucket import Server, releases_bucket, variables
from tests.chaos.client import Harness, harness
from tests.chaos.draw import Draws
from tests.chaos.results import boundaries_hit, counts, rows, shown, troubles
from tests.ledger import postgres


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=50, help="of each kind and backend")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of the draws, to repeat them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trials at once")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that the servers are ended, too
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    begun, reports = time.monotonic(), []
    with _postgresql() as port, _bucket() as bucket, harness(port, arguments.jobs) as warm:
        trials = list(_trials(warm, arguments, port, bucket))
        for done in track(warm.carry_out(trials), "trials", len(trials), console=console):
            reports.append(done)
    summary = counts(reports)
    by_kind = rows(reports)
    print(shown(by_kind), *troubles(reports), f"seed {arguments.seed}", sep="\n")
    detail = {
        "seed": arguments.seed,
        "seconds": round(time.monotonic() - begun, 1),
        "killed": sum(row["killed"] for row in by_kind),
        "by_kind": by_kind,
        "boundaries": dict(sorted(boundaries_hit(reports).items())),
        "troubles": troubles(reports),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "chaos.json").write_text(json.dumps(summary | detail, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(summary))
    if any(number for name, number in summary.items() if name != "trials"):
        raise SystemExit(1)


def _trials(
    warm: Harness, arguments: argparse.Namespace, port: int | None, bucket: dict[str, str]
) -> Iterator[dict[str, Any]]:
    places: list[tuple[dict[str, Any], int]] = [({"backend": "sqlite"}, arguments.trials)]
    if port is not None:
        places.append(({"backend": "postgresql"}, arguments.trials))
    a_tenth = -(-arguments.trials // 10)
    places.append(({"backend": "sqlite", "structure": "mixture"}, a_tenth))
    places.append(({"backend": "sqlite", "bucket": bucket}, a_tenth))
    for number, (where, wanted) in enumerate(places):
        draws = Draws(warm.one({"kind": "clean", **where}), where, arguments.seed + number)
        # What is not published does not depend on where; what is not trained does not depend on the structure.
        yield from draws.boundaries("publish" if "bucket" in where else "train" if "structure" in where else None)
        yield from draws.of_each_kind(wanted)


@contextlib.contextmanager
def _postgresql() -> Iterator[int | None]:
    programs = postgres.binaries()
    if programs is None:
        console.print("[bold yellow]SKIPPED: PostgreSQL[/] - it is not installed")
        yield None
        return
    with postgres.running(programs) as server:
        yield server.port


@contextlib.contextmanager
def _bucket() -> Iterator[dict[str, str]]:
    server = Server()
    try:
        with releases_bucket(server):
            yield variables(server.url)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
