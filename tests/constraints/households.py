"""A made-up table with rules of every kind between its columns, and the contract that declares them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

REGIONS = {"north": ["lake", "hill"], "south": ["coast"], "east": ["hill", "plain"]}
LEVELS = {"north": 1, "south": 2, "east": 3}

COLUMNS: dict[str, Any] = {
    "region": {"type": "categorical", "categories": list(REGIONS)},
    "land": {"type": "categorical", "categories": ["lake", "hill", "coast", "plain"]},
    "level": {"type": "categorical", "categories": [1, 2, 3]},
    "status": {"type": "categorical", "categories": ["active", "left"]},
    "joined": {"type": "integer", "min": 1990, "max": 2025},
    "ended": {"type": "integer", "min": 1990, "max": 2025, "nullable": True},
    "net": {"type": "number", "min": 0, "max": 5000, "decimals": 2},
    "tax": {"type": "number", "min": -200, "max": 2000, "decimals": 2, "nullable": True},
    "total": {"type": "number", "min": 0, "max": 7000, "decimals": 2, "nullable": True},
    "member": {"type": "boolean"},
    "buys": {"type": "categorical", "categories": ["no", "yes"]},
}
CONSTRAINTS: list[dict[str, Any]] = [
    {"kind": "inequality", "holds": ["joined", "<", "ended"]},
    {"kind": "inequality", "holds": ["tax", "<=", "net"], "where": {"member": [False]}},
    {"kind": "combinations", "columns": ["region", "land"], "allowed": REGIONS},
    {"kind": "combinations", "columns": ["status", "member"], "forbidden": [["left", True]]},
    {"kind": "functional", "column": "level", "of": "region", "mapping": LEVELS},
    {"kind": "functional", "column": "total", "formula": {"net": 1, "tax": 1}},
    {"kind": "structural_null", "column": "ended", "exactly_where": {"status": ["active"]}},
    {"kind": "non_negative", "columns": ["tax"], "where": {"status": ["left"]}},
    {"kind": "rounding", "column": "net", "multiple_of": 50},
]


def households(rows: int, seed: int = 0) -> pd.DataFrame:
    """Rows that keep all of the constraints."""
    generator = np.random.default_rng(seed)
    region = generator.choice(list(REGIONS), rows, p=[0.5, 0.2, 0.3])
    land = [generator.choice(REGIONS[name]) for name in region]
    left = generator.random(rows) < 0.4
    joined = generator.integers(1990, 2020, rows)
    net = np.round(generator.gamma(2, 600, rows).clip(0, 5000) / 50) * 50
    tax = np.round(net * generator.uniform(0, 0.4, rows), 2)
    member = ~left & (generator.random(rows) < 0.6)
    score = (net - 1200) / 800 + (region == "north") + generator.normal(0, 0.4, rows)
    return pd.DataFrame(
        {
            "person": np.arange(rows) + 5000,
            "region": region,
            "land": land,
            "level": [LEVELS[name] for name in region],
            "status": np.where(left, "left", "active"),
            "joined": joined,
            "ended": pd.array(np.where(left, joined + generator.integers(1, 6, rows), 0), "Int64"),
            "net": net,
            "tax": tax,
            "total": np.round(net + tax, 2),
            "member": member,
            "buys": np.where(score > 0.5, "yes", "no"),
        }
    ).assign(ended=lambda table: table["ended"].mask(table["status"] == "active"))


def sections(**changes: Any) -> dict[str, Any]:
    """Sections for `tests.conftest.contract_document`."""
    return {"schema": COLUMNS, "constraints": CONSTRAINTS, "expectations": [], "quality": {}, **changes}


def all_kept(frame: pd.DataFrame) -> bool:
    """Whether each row keeps every rule, told without the rules' own code."""
    frame = frame.reset_index(drop=True)
    active = frame["status"].astype(str) == "active"
    member = frame["member"].astype(bool)
    pairs = zip(frame["region"].astype(str), frame["land"].astype(str), strict=True)
    total = (frame["net"].astype(float) + frame["tax"].astype(float)).round(2)
    here = frame["tax"].notna()
    return bool(
        (frame["ended"].isna() == active).all()
        and (frame.loc[~active, "joined"] < frame.loc[~active, "ended"]).all()
        and (frame.loc[~member & here, "tax"] <= frame.loc[~member & here, "net"]).all()
        and all(land in REGIONS[region] for region, land in pairs)
        and not (~active & member).any()
        and (frame["region"].astype(str).map(LEVELS) == frame["level"].astype(int)).all()
        and (frame["total"].isna() == ~here).all()
        and np.allclose(frame.loc[here, "total"].astype(float), total[here], atol=1e-9)
        and (frame.loc[~active & here, "tax"] >= 0).all()
        and (frame["net"] % 50 == 0).all()
    )
