"""The tables of the benchmark: a contract, the real rows for training and for testing, and two questions more.

A *second target* is a column that the contract does not name as its target: what a consumer might ask next.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from synth.contract import Contract, contract_from_document
from synth.schema import Codes, Schema
from tests.benchmarks.common import CONTRACTS

SECOND_TARGETS = {
    "adult": ("sex", "marital-status"),
    "bank": ("housing", "marital"),
    "credit_default": ("SEX", "MARRIAGE"),
    "shoppers": ("VisitorType", "Weekend"),
    "acs_national2019": ("OWN_RENT", "HISP"),
}
OURS: dict[str, Any] = {"options": {"structure": "mixture"}}
SHARED_BINS = 32  # cells of a numeric column that all methods are compared on, and one or two more around zero


@dataclass(frozen=True)
class BenchTable:
    """One data set.

    :param document: the contract as plain values.
    """

    name: str
    document: dict[str, Any]
    train_path: Path
    test_path: Path
    second_targets: tuple[str, str]

    @classmethod
    def named(cls, name: str) -> BenchTable:
        """One of ``SECOND_TARGETS``, from the folder in ``SLUICE_DATA``."""
        folder = os.environ.get("SLUICE_DATA", "")
        path = Path(folder).resolve() / "tabular"
        if not folder or not (path / f"{name}_train.parquet").is_file():
            raise SystemExit(
                f"bench-tables: no {name}_train.parquet in {path if folder else '(SLUICE_DATA is not set)'}; name the "
                "folder that holds tabular/, as in make bench-tables SLUICE_DATA=/path/to/data"
            )
        document = yaml.safe_load((CONTRACTS / f"{name}.yaml").read_text(encoding="utf-8"))
        return cls(name, document, path / f"{name}_train.parquet", path / f"{name}_test.parquet", SECOND_TARGETS[name])

    def contract(self, epsilon: float, method: dict[str, Any] = OURS) -> Contract:
        """The contract at another ε, by a method; without expectations and thresholds, which do not run here."""
        document = copy.deepcopy(self.document)
        document["privacy"]["epsilon"] = epsilon
        document["method"] = method
        for section in ("expectations", "quality"):
            document.pop(section, None)
        return contract_from_document(document, self.name)

    @cached_property
    def rows(self) -> int:
        """How many rows each method is asked for: a public number."""
        return int(self.document["rows"])

    @cached_property
    def schema(self) -> Schema:
        """The domain on the shared grid: public, the same codes for all."""
        document = copy.deepcopy(self.document)
        for column in document["schema"].values():
            if column["type"] in ("integer", "number"):
                column.update(bins=SHARED_BINS, scale="auto")
        document["method"] = OURS
        return Schema.from_contract(contract_from_document(document, self.name))

    @cached_property
    def train(self) -> pd.DataFrame:
        """Parsed private rows."""
        return self.schema.parse(pq.read_table(self.train_path))

    @cached_property
    def test(self) -> pd.DataFrame:
        """Parsed rows that no method sees."""
        return self.schema.parse(pq.read_table(self.test_path))

    def parsed(self, release: pd.DataFrame) -> pd.DataFrame:
        """Released native values through the same door as real ones."""
        return self.schema.parse(pa.Table.from_pandas(release, preserve_index=False))

    def peer_sizes(self) -> list[int]:
        """Codes of each column that a peer may release: null only where the contract allows it."""
        return [column.size if column.nullable else column.cells for column in self.schema.columns]

    def peer_codes(self) -> Codes:
        """The private rows' codes as peers get them."""
        codes = self.schema.encode(self.train)
        beyond = [name for name, top, size in zip(self.schema.names, codes.max(axis=0), self.peer_sizes(), strict=True)
                  if top >= size]  # fmt: skip
        if beyond:
            raise SystemExit(f"bench-tables: contract {self.name!r} does not allow null in {', '.join(beyond)}")
        return codes
