"""The two tables of the ledger: who may register a policy and who may spend under one is a matter of plain grants.

A row of ``policies`` is a registration, the first entry of a chain; every later entry is a row of ``entries``, and the
foreign key lets none in under a policy that is not registered. Nothing is stored that does not follow from these rows.
Rows are only ever inserted: the migrations add triggers that refuse UPDATE and DELETE.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# What else a registration's entry holds is the same for all of them: see `Entry.registration`.
policies = Table(
    "policies",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("payload", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("digest", Text, nullable=False),
)

entries = Table(
    "entries",
    metadata,
    # An identity column, unlike a serial one, needs no rights on a sequence.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), Identity(always=True), primary_key=True),
    Column("policy", Text, ForeignKey("policies.policy", name="entries_policy_registered"), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("balance", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("digest", Text, nullable=False),
    UniqueConstraint("policy", "sequence", name="entries_policy_sequence"),
    UniqueConstraint("policy", "key", name="entries_policy_key"),
    CheckConstraint("sequence > 1 AND kind <> 'policy' AND key <> 'policy'", name="entries_after_registration"),
    Index("entries_policy_run", "policy", "run"),
    Index("entries_policy_kind_run", "policy", "kind", "run"),
)
