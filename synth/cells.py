"""Cells of a file, one by one: from whatever type a column is stored in to texts, and from a text to a declared type.

The result for one cell never depends on another, nor on how the file stores the column: a type inferred from a column
would depend on all of its cells. Whatever cannot be read is null.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from synth.contract.instants import DAY, seconds_of_text

_TRUE, _FALSE = {"true", "t", "yes", "y", "1"}, {"false", "f", "no", "n", "0"}
_BYTES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)  # linear in the text's length
_LONGEST_NUMBER = 400  # characters; longer than any finite float's digits


def number_of_text(text: str) -> float:
    """A number; the words true and false are 1 and 0. NaN for what is none."""
    lowered = text.lower()
    if lowered in ("true", "false"):
        return float(lowered == "true")
    value = float(text) if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text) else math.nan
    return value if math.isfinite(value) else math.nan


def truth_of_text(text: str) -> float:
    """1 or 0 for the words that mean true or false, else as a number."""
    lowered = text.lower()
    return 1.0 if lowered in _TRUE else 0.0 if lowered in _FALSE else number_of_text(text)


def instant_of_text(text: str) -> float:
    """Seconds since 1970-01-01 in UTC. NaN for what is no ISO 8601 date or instant."""
    seconds = seconds_of_text(text)
    return math.nan if seconds is None else float(seconds)


def day_of_text(text: str) -> float:
    """Seconds from 1970-01-01 to the start of the day in UTC. NaN for what is no ISO 8601 date or instant."""
    seconds = seconds_of_text(text)
    return math.nan if seconds is None else float(seconds - seconds % DAY)


def canonical_texts(cells: pa.ChunkedArray | pa.Array) -> npt.NDArray[Any]:
    """One text for each cell, None for null: the numbers 3 and 3.0 and the text " 3 " all are "3"."""
    codes, distinct = distinct_texts(cells)
    return np.array([*distinct, None], dtype=object)[codes]


def distinct_texts(cells: pa.ChunkedArray | pa.Array) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Codes into the distinct canonical texts, the last code for null."""
    column = cells if isinstance(cells, pa.ChunkedArray) else pa.chunked_array([cells])
    array = plain_column(column).combine_chunks()
    encoded = array.dictionary_encode()
    texts = [canonical_text(value.as_py()) for value in encoded.dictionary]
    distinct = [text for text in dict.fromkeys(texts) if text is not None]
    position = {text: code for code, text in enumerate(distinct)}
    table = np.array([position.get(text, len(distinct)) for text in texts] + [len(distinct)], dtype=np.int64)  # type: ignore[arg-type]
    indices = encoded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
    return table[indices], distinct


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in a type whose rows can be taken and whose chunks can be joined, whatever its cells hold.

    Chunk by chunk: to join dictionaries may overflow their index type by one cell, and to join texts their offsets.
    """
    kind = _plain(pa.array([], column.type)).type
    return pa.chunked_array([_plain(chunk) for chunk in column.chunks], kind)


def _plain(array: pa.Array) -> pa.Array:
    """Integers, floats, booleans or bytes: types whose cells all become Python values, whatever they hold.

    Text is looked at as bytes, since one cell that is not UTF-8 would fail the whole column. Types that have no
    text, lists say, become null.
    """
    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        elif pa.types.is_run_end_encoded(array.type):
            array = pc.run_end_decode(array)
        else:
            break
    kind = array.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return array
    if pa.types.is_nested(kind):
        return pa.nulls(len(array), pa.large_binary())
    if pa.types.is_timestamp(kind):
        array = array.cast(pa.timestamp(kind.unit))  # in UTC: a worker may not know the zone
    try:
        if not any(test(kind) for test in _BYTES):
            array = array.cast(pa.string())  # Python objects of dates can fail on one extreme cell; text cannot
        return array.cast(pa.large_binary())
    except pa.ArrowNotImplementedError:
        return pa.nulls(len(array), pa.large_binary())


def canonical_text(value: Any) -> str | None:
    """The text of one Python value; None for what is null."""
    if value is None:
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")  # what is no UTF-8 reads as the text that names its bytes
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < 2**63 else repr(value)
    text = str(value).strip()
    return text or None
