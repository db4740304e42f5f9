from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, NullPool, create_engine, insert, make_url, update
from sqlalchemy.exc import DBAPIError

from synth.errors import SluiceError, TamperedArtifact
from synth.ledger import Entry, Ledger
from synth.ledger.database import Database
from synth.ledger.entries import canonical_json
from synth.ledger.history import verify_chain
from synth.ledger.models import entries as table
from synth.ledger.models import policies
from tests.ledger.conftest import Reserve

REGISTRATION = ("policy", "payload", "at", "digest")
COLUMNS = "policy, sequence, kind, key, run, payload, balance, at, previous, digest"


@contextmanager
def tampering(superuser_url: str) -> Iterator[Connection]:
    """Someone with the database in hand: no triggers and no foreign key in the way of an edit."""
    url = make_url(superuser_url)
    sqlite = url.get_backend_name() == "sqlite"
    engine = create_engine(url if sqlite else url.set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.begin() as connection:
        if sqlite:
            for table in ("policies", "entries"):
                for name in ("update", "delete", "replace"):
                    connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {table}_refuse_{name}")
        else:
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        yield connection


@pytest.fixture
def spent(ledger: Ledger, reserve: Reserve) -> Ledger:
    """A ledger of eight entries."""
    reserve("one")
    ledger.begin("patients", "one", "validation", plan_digest="plan-1")
    ledger.begin("patients", "one", "training", plan_digest="plan-1")
    ledger.commit("patients", "one", "training", 1)
    ledger.settle("patients", "one")
    ledger.record("patients", "one", "gate", {})
    ledger.record("patients", "one", "note", {"text": "done"})
    return ledger


def relinked(entries: list[Entry]) -> list[Entry]:
    """The entries as one chain: sequence, links and digests all computed anew."""
    chain: list[Entry] = []
    for number, entry in enumerate(entries, 1):
        entry = replace(entry, sequence=number, previous=chain[-1].digest if chain else "")
        chain.append(replace(entry, digest=entry.computed_digest()))
    return chain


def rewrite(superuser_url: str, entries: list[Entry]) -> None:
    """Replace the history by another whose chain is whole."""
    first, *later = relinked(entries)
    with tampering(superuser_url) as connection:
        for emptied in ("entries", "policies"):
            connection.exec_driver_sql(f"DELETE FROM {emptied}")
        connection.execute(insert(policies).values({column: first.columns()[column] for column in REGISTRATION}))
        for entry in later:
            connection.execute(insert(table).values(entry.columns()))


def test_an_untouched_ledger_verifies_and_hands_out_its_last_entry(spent: Ledger) -> None:
    last = spent.verify("patients")
    assert last == spent.entries("patients")[-1]
    assert last.sequence == 8
    assert spent.verify("patients", anchors={3: spent.entries("patients")[2].digest}) == last


@pytest.mark.parametrize("column", COLUMNS.removeprefix("policy, ").split(", "))
@pytest.mark.parametrize("sequence", [4, 8])
def test_an_edit_of_any_column_is_found_at_its_entry(
    spent: Ledger, superuser_url: str, column: str, sequence: int
) -> None:
    value = "99" if column == "sequence" else "'{\"forged\":1}'"
    with tampering(superuser_url) as connection:
        connection.exec_driver_sql(f"UPDATE entries SET {column} = {value} WHERE sequence = {sequence}")
    with pytest.raises(TamperedArtifact, match=f"intact from entry {sequence} on"):
        spent.verify("patients")


@pytest.mark.parametrize("column", REGISTRATION)
def test_an_edit_of_any_column_of_a_registration_is_found(spent: Ledger, superuser_url: str, column: str) -> None:
    with tampering(superuser_url) as connection:
        connection.exec_driver_sql(f"UPDATE policies SET {column} = '{{\"forged\":1}}'")
    with pytest.raises(TamperedArtifact, match="intact from entry 1 on"):
        spent.verify("patients")


def test_a_policy_under_another_name_is_not_intact(spent: Ledger, superuser_url: str) -> None:
    with tampering(superuser_url) as connection:
        for name in ("policies", "entries"):
            connection.exec_driver_sql(f"UPDATE {name} SET policy = 'renamed'")
    with pytest.raises(TamperedArtifact, match="'renamed': the ledger is not intact from entry 1 on"):
        spent.verify("renamed")


def test_an_entry_moved_to_another_policy_is_missing_from_its_own(spent: Ledger, superuser_url: str) -> None:
    with tampering(superuser_url) as connection:
        connection.exec_driver_sql("UPDATE entries SET policy = 'other' WHERE sequence = 3")
    with pytest.raises(TamperedArtifact, match="intact from entry 3 on"):
        spent.verify("patients")


@pytest.mark.parametrize("sequence", [1, 2, 5, 7])
def test_a_deleted_entry_is_found(spent: Ledger, superuser_url: str, sequence: int) -> None:
    with tampering(superuser_url) as connection:
        deleted = "policies" if sequence == 1 else f"entries WHERE sequence = {sequence}"
        connection.exec_driver_sql(f"DELETE FROM {deleted}")
    with pytest.raises(TamperedArtifact, match=f"intact from entry {sequence} on"):
        spent.verify("patients")


def test_an_inserted_entry_is_found(spent: Ledger, superuser_url: str) -> None:
    with tampering(superuser_url) as connection:
        connection.exec_driver_sql("UPDATE entries SET sequence = sequence + 100 WHERE sequence >= 5")
        connection.exec_driver_sql("UPDATE entries SET sequence = sequence - 99 WHERE sequence >= 100")
        connection.exec_driver_sql(
            f"INSERT INTO entries ({COLUMNS}) SELECT policy, 5, kind, 'forged', run, payload, balance, at, "
            "previous, digest FROM entries WHERE sequence = 4"
        )
    with pytest.raises(TamperedArtifact, match="intact from entry 5 on"):
        spent.verify("patients")


def test_a_tail_cut_off_is_found_by_a_digest_noted_elsewhere(spent: Ledger, superuser_url: str) -> None:
    noted = spent.verify("patients")
    with tampering(superuser_url) as connection:
        connection.exec_driver_sql("DELETE FROM entries WHERE sequence >= 7")
    assert spent.verify("patients").sequence == 6
    with pytest.raises(TamperedArtifact, match="entry 8 on: its digest is not the one that was noted"):
        spent.verify("patients", anchors={noted.sequence: noted.digest})


def test_a_rewritten_history_has_to_follow_the_rules(spent: Ledger, superuser_url: str) -> None:
    history = spent.entries("patients")
    cheaper = json.loads(history[1].payload_text)
    cheaper["charges"][1]["cost"] = 1
    text = json.dumps(cheaper, sort_keys=True, separators=(",", ":"))
    rewrite(superuser_url, [history[0], replace(history[1], payload_text=text), *history[2:]])
    with pytest.raises(TamperedArtifact, match="entry 2 on: its balance does not follow"):
        spent.verify("patients")


@pytest.mark.parametrize(("left_out", "first_bad"), [(1, 2), (3, 4)], ids=["reserve", "training start"])
def test_a_history_rewritten_without_an_entry_has_to_follow_the_rules(
    spent: Ledger, superuser_url: str, left_out: int, first_bad: int
) -> None:
    history = spent.entries("patients")
    rewrite(superuser_url, history[:left_out] + history[left_out + 1 :])
    with pytest.raises(TamperedArtifact, match=f"intact from entry {first_bad} on"):
        spent.verify("patients")


def test_a_consistent_rewrite_is_found_by_a_digest_noted_elsewhere(spent: Ledger, superuser_url: str) -> None:
    history = spent.entries("patients")
    rewrite(superuser_url, history[:-1])
    spent.verify("patients")
    rewrite(superuser_url, [*history[:-1], replace(history[-1], at="2020-01-01T00:00:00.000000+00:00")])
    spent.verify("patients")
    with pytest.raises(TamperedArtifact, match="entry 8 on"):
        spent.verify("patients", anchors={8: history[-1].digest})


def test_an_edit_that_recomputes_its_own_digest_breaks_the_link_to_the_next(spent: Ledger, superuser_url: str) -> None:
    edited = replace(spent.entries("patients")[6], payload_text='{"forged":1}')
    with tampering(superuser_url) as connection:
        connection.execute(
            update(table)
            .where(table.c.sequence == 7)
            .values(payload=edited.payload_text, digest=edited.computed_digest())
        )
    with pytest.raises(TamperedArtifact, match="entry 8 on: it does not follow the entry before it"):
        spent.verify("patients")


@pytest.mark.parametrize(("first", "second"), [("start", "free"), ("free", "start"), ("free", "free")])
def test_no_whole_chain_can_both_free_and_start_a_mechanism(spent: Ledger, first: str, second: str) -> None:
    history = spent.entries("patients")
    begun = {kind: next(entry for entry in history if entry.kind == kind) for kind in ("start", "free")}
    held = {
        "start": '{"split-1":{"holdout":150,"train":250}}',
        "free": '{"split-1":{"holdout":50,"train":250}}',
    }
    payload = '{"attempt":1,"mechanism":"gate"}'
    pair = [
        replace(begun[kind], key="one:gate:begin:1", payload_text=payload, balance_text=held[first])
        for kind in (first, second)
    ]
    verify_chain("patients", relinked([*history[:2], pair[0]]), {})
    with pytest.raises(TamperedArtifact, match="entry 4 on: the ledger's rules do not allow it"):
        verify_chain("patients", relinked([*history[:2], *pair]), {})


@pytest.mark.parametrize("sequence", [1, 2, 8])
def test_nothing_is_decided_on_an_edited_entry(spent: Ledger, superuser_url: str, sequence: int) -> None:
    with tampering(superuser_url) as connection:
        edited = "policies SET" if sequence == 1 else "entries SET balance = '{}',"
        where = "" if sequence == 1 else f"WHERE sequence = {sequence}"
        connection.exec_driver_sql(f"UPDATE {edited} payload = '{{}}' {where}")
    with pytest.raises(TamperedArtifact, match=f"entry {sequence} "):
        spent.begin("patients", "one", "training", plan_digest="plan-1")


def test_a_history_that_breaks_the_rules_gives_no_balance(spent: Ledger, superuser_url: str) -> None:
    with tampering(superuser_url) as connection:
        connection.exec_driver_sql("DELETE FROM entries WHERE sequence = 2")
    with pytest.raises(TamperedArtifact, match="entry 3"):
        spent.balance("patients")


REPLACEMENTS = (
    f"REPLACE INTO entries (id, {COLUMNS}) SELECT id, {COLUMNS} FROM entries WHERE sequence = 2",
    f"INSERT OR REPLACE INTO entries ({COLUMNS}) SELECT {COLUMNS} FROM entries WHERE sequence = 2",
    f"REPLACE INTO entries ({COLUMNS}) SELECT policy, 99, kind, key, run, payload, balance, at, "
    "previous, digest FROM entries WHERE sequence = 2",
    f"REPLACE INTO entries (id, {COLUMNS}) SELECT id, policy, 99, kind, 'new', run, payload, balance, "
    "at, previous, digest FROM entries WHERE sequence = 2",
)
UPSERTS = (
    f"INSERT INTO entries ({COLUMNS}) SELECT {COLUMNS} FROM entries WHERE sequence = 2 "
    f"ON CONFLICT ON CONSTRAINT entries_policy_{column} DO UPDATE SET payload = '{{}}'"
    for column in ("sequence", "key")
)
REGISTRATIONS = (
    "REPLACE INTO policies SELECT policy, '{}', at, digest FROM policies",
    "INSERT INTO policies SELECT policy, '{}', at, digest FROM policies "
    "ON CONFLICT (policy) DO UPDATE SET payload = '{}'",
)
CHANGES = (
    "UPDATE entries SET payload = '{}'",
    "DELETE FROM entries WHERE sequence = 2",
    "UPDATE policies SET payload = '{}'",
    "DELETE FROM policies",
)


@pytest.mark.parametrize(
    ("backend", "statement"),
    [
        *(("sqlite", statement) for statement in (*CHANGES, *REPLACEMENTS, REGISTRATIONS[0])),
        *(
            ("postgresql", statement)
            for statement in (*CHANGES, *UPSERTS, REGISTRATIONS[1], "TRUNCATE policies, entries", "TRUNCATE entries")
        ),
    ],
)
def test_the_database_refuses_even_its_owner_to_change_or_delete_an_entry(
    spent: Ledger, owner_url: str, statement: str
) -> None:
    before = spent.entries("patients")
    engine = Database.connect(owner_url).engine
    with pytest.raises(DBAPIError, match="ledger entries cannot be"), engine.begin() as connection:
        connection.exec_driver_sql(statement)
    assert spent.entries("patients") == before


def test_an_error_about_tampering_is_one_that_a_retry_does_not_help(spent: Ledger, superuser_url: str) -> None:
    with tampering(superuser_url) as connection:
        connection.exec_driver_sql("UPDATE entries SET digest = 'x' WHERE sequence = 8")
    with pytest.raises(SluiceError) as found:
        spent.verify("patients")
    assert found.value.retry is False


# Any character, lone surrogates too.
TEXT = st.text(st.characters(exclude_categories=[]))


@given(texts=st.lists(TEXT, min_size=8, max_size=8), sequence=st.integers(1, 2**63 - 1))
def test_a_digest_is_that_of_the_canonical_json_of_all_columns(texts: list[str], sequence: int) -> None:
    policy, kind, key, run, payload, balance, at, previous = texts
    entry = Entry(policy, sequence, kind, key, run, payload, balance, at, previous, "")
    columns = {name: value for name, value in entry.columns().items() if name != "digest"}
    assert {*columns, "digest"} == set(COLUMNS.split(", "))
    assert entry.computed_digest() == hashlib.sha256(canonical_json(columns).encode()).hexdigest()


@pytest.mark.parametrize("column", [field.name for field in fields(Entry)])
@pytest.mark.parametrize("value", [None, b"bytes", 1.5, "2", ["x"]])
def test_a_column_of_another_type_is_not_intact(column: str, value: object) -> None:
    entry = Entry("p", 2, "note", "k", "r", "{}", "{}", "now", "", "").sealed()
    assert entry.is_intact()
    assert not replace(entry, **{column: value}).is_intact()
