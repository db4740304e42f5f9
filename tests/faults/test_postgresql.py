"""The ledger's server goes away: between steps, within them, and with an answer on its way."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from synth import steps
from synth.errors import LedgerUnavailable
from synth.release.verify import verify_release
from tests.bucket import Server as Bucket
from tests.conftest import starts
from tests.faults.conftest import OnPostgreSQL
from tests.faults.promises import complete, refused, released, up_to
from tests.faults.proxy import Relay


@pytest.fixture
def relay(on_postgresql: OnPostgreSQL) -> Iterator[Relay]:
    """The ledger is reached through it."""
    port = on_postgresql.database.server.port
    made = Relay(port)
    on_postgresql.reaching(on_postgresql.database.worker.replace(f":{port}/", f":{made.port}/"))
    yield made
    made.close()


def test_a_server_that_is_down_before_any_step_stops_it_and_costs_nothing(on_postgresql: OnPostgreSQL) -> None:
    """For a run that was opened before, and for one that is opened only now. Only sampling asks the ledger nothing."""
    run = on_postgresql.run()
    for step in (*steps.STEPS, steps.settle):
        if step is steps.generate:
            step(run)
            continue
        on_postgresql.stop()
        for one in (run, on_postgresql.run()):
            with refused(LedgerUnavailable):
                step(one)
        on_postgresql.start()
        step(run)
    complete(on_postgresql)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["shut down", "crashed"])
def test_a_server_that_goes_away_in_training_loses_no_output_and_charges_none_twice(
    on_postgresql: OnPostgreSQL, how: signal.Signals
) -> None:
    """The output was committed to the workspace before the ledger was told so."""
    run = on_postgresql.run()
    up_to(run, steps.train)
    stop = on_postgresql.database.server.stop
    run.progress = lambda task, done, total: stop(how) if done == total // 2 else None
    with refused(LedgerUnavailable):
        steps.train(run)
    output = run.workspace.read("dp/label_model.npz")
    on_postgresql.start()
    complete(on_postgresql)
    assert run.workspace.read("dp/label_model.npz") == output


@pytest.mark.parametrize("at", ["README.md", "manifest.json"])
def test_a_server_that_goes_away_while_a_release_goes_up_is_told_of_it_later(
    on_postgresql: OnPostgreSQL, server: Bucket, at: str
) -> None:
    changes = {"publish": {"uri": "s3://releases/open"}}
    run = on_postgresql.run(**changes)
    up_to(run, steps.publish)

    def stops_the_ledger(request: object) -> None:
        if getattr(request, "writes", False) and str(getattr(request, "path", "")).endswith(at):
            server.refuse = lambda request: None
            on_postgresql.stop()

    server.refuse = stops_the_ledger
    with refused(LedgerUnavailable):
        steps.publish(run)
    before = _objects(server)
    assert sum(key.endswith("manifest.json") for key in before) == 1
    on_postgresql.start()
    facts = complete(on_postgresql, run=on_postgresql.run(**changes))
    assert _objects(server) == before
    assert verify_release(facts["publish"]["uri"]).ok


# What was recorded and could not be confirmed: the answer to the commit is lost on its way.
KEYS = (
    ":reserve",
    ":request",
    ":validation:begin:1",
    ":validation:commit:2",
    ":label_model:begin:1",
    ":label_model:commit:2",
    ":gate_pairs:begin:1",
    ":gate",
    ":decision",
    ":publishing",
    ":published",
    ":settled",
)


def test_what_was_recorded_without_an_answer_is_found_by_the_retry(on_postgresql: OnPostgreSQL, relay: Relay) -> None:
    """A lost start is charged and looked at nothing: the retry is another attempt. All else is recorded once."""
    name = on_postgresql.run().name
    waiting = {f"{name}{key}".encode() for key in KEYS}

    def lose(sent: bytes) -> bool:
        transaction = sent[sent.rfind(b"BEGIN") :]
        _, inserted, entry = transaction.rpartition(b"INSERT INTO entries")
        if not inserted or not entry.rstrip(b"\0").endswith(b"COMMIT"):
            return False
        # A key ends where the next value's length begins, which is a zero byte.
        hit = {key for key in waiting if key + b"\0" in entry}
        waiting.difference_update(hit)
        return bool(hit)

    relay.lose = lose
    run = on_postgresql.run()
    for step in (*steps.STEPS, steps.settle):
        for _ in range(8):
            before = relay.lost
            try:
                step(run)
            except LedgerUnavailable:
                assert relay.lost == before + 1
            else:
                break
        else:
            pytest.fail(f"{step.__name__} does not come to an end")
    assert not waiting
    assert relay.lost == len(KEYS)
    relay.lose = lambda sent: False
    complete(on_postgresql, extra={"validation": 1, "label_model": 1, "gate_pairs": 1})


def test_a_connection_that_ends_before_the_commit_is_received_records_nothing(
    on_postgresql: OnPostgreSQL, relay: Relay
) -> None:
    run = on_postgresql.run()
    up_to(run, steps.train)
    relay.cut = lambda sent: b"COMMIT" in sent
    for _ in range(3):
        with refused(LedgerUnavailable):
            steps.train(run)
    relay.cut = lambda sent: False
    assert starts(run)["marginals"] == 0
    complete(on_postgresql)


def test_a_standby_that_only_reads_is_an_error_to_retry(on_postgresql: OnPostgreSQL) -> None:
    """After a failover the URL may lead to one for a while."""
    run = on_postgresql.run()
    up_to(run, steps.train)
    database = on_postgresql.database
    database.as_superuser(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    try:
        with refused(LedgerUnavailable) as error:
            steps.train(run)
    finally:
        database.as_superuser(
            "SET default_transaction_read_only = off",
            f"ALTER DATABASE {database.name} RESET default_transaction_read_only",
        )
    assert "only reads" in str(error.value)
    complete(on_postgresql)


def test_nothing_is_visible_while_the_ledger_cannot_be_told_who_approved(on_postgresql: OnPostgreSQL) -> None:
    run = on_postgresql.run()
    up_to(run, steps.publish)
    on_postgresql.stop()
    with refused(LedgerUnavailable):
        steps.publish(run)
    assert released(on_postgresql) == []
    assert not Path(on_postgresql.folder / "bucket").exists()
    on_postgresql.start()
    complete(on_postgresql)


def _objects(server: Bucket) -> dict[str, str]:
    found = server.client().list_objects_v2(Bucket="releases").get("Contents", [])
    return {entry["Key"]: entry["ETag"] for entry in found}
