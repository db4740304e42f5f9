"""One text for one value: what digests and authentication codes are computed over."""

from __future__ import annotations

import json

# One for all calls: `json.dumps` would make one each time.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical_json(value: object) -> str:
    """JSON with sorted keys, no spaces, ASCII.

    >>> canonical_json({"b": 1, "a": ("x",)})
    '{"a":["x"],"b":1}'

    :raises TypeError, ValueError: if a part is not JSON, or not a finite number.
    """
    return _ENCODER.encode(value)
