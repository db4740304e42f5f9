"""The one table of the ledger.

Every fact the ledger knows is a row of ``entries``; nothing is stored that does not follow from them. Rows
are only ever inserted: the migration adds triggers that refuse UPDATE and DELETE, and a database role that
may SELECT and INSERT is all a worker needs.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Index, Integer, MetaData, Table, Text, UniqueConstraint

metadata = MetaData()

entries = Table(
    "entries",
    metadata,
    # An identity column, unlike a serial one, needs no rights on a sequence.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), Identity(always=True), primary_key=True),
    Column("policy", Text, nullable=False),
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
    Index("entries_policy_run", "policy", "run"),
)
