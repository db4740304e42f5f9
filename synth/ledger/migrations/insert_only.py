"""The triggers that refuse to change or delete a row, as statements for SQLite.

SQLite needs the third because ``INSERT OR REPLACE`` deletes the row it replaces without firing a delete trigger.
"""

from __future__ import annotations


def sqlite_triggers(table: str, keys: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """:param keys: the columns of each unique constraint of the table, its primary key among them."""
    taken = "\n         OR ".join(
        f"EXISTS (SELECT 1 FROM {table} WHERE {' AND '.join(f'{column} = NEW.{column}' for column in key)})"  # noqa: S608
        for key in keys
    )
    return (
        f"""CREATE TRIGGER {table}_refuse_update BEFORE UPDATE ON {table}
       BEGIN SELECT RAISE(ABORT, 'ledger entries cannot be changed'); END""",
        f"""CREATE TRIGGER {table}_refuse_delete BEFORE DELETE ON {table}
       BEGIN SELECT RAISE(ABORT, 'ledger entries cannot be deleted'); END""",
        f"""CREATE TRIGGER {table}_refuse_replace BEFORE INSERT ON {table}
       WHEN {taken}
       BEGIN SELECT RAISE(ABORT, 'ledger entries cannot be replaced'); END""",
    )
