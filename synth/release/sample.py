"""Further rows of a released model in one Parquet file, whose metadata says what they are and what is claimed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synth.release.data import as_stored
from synth.release.stamp import PARQUET_KEY
from synth.schema import Schema


def write_sample(path: Path, frames: Iterator[pd.DataFrame], schema: Schema, about: str) -> None:
    """Write the frames, a row group each. Memory: one frame.

    :param about: what the file's metadata says under ``sluice``.
    """
    writer: pq.ParquetWriter | None = None
    layout: pa.Schema | None = None
    try:
        for frame in frames:
            table = pa.Table.from_pandas(as_stored(frame, schema), schema=layout, preserve_index=False)
            if writer is None:
                layout = table.schema.with_metadata({**(table.schema.metadata or {}), PARQUET_KEY: about.encode()})
                writer = pq.ParquetWriter(path, layout, compression="zstd")
            writer.write_table(table.cast(layout), row_group_size=max(1, len(frame)))
    finally:
        if writer is not None:
            writer.close()
