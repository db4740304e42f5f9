"""One Airflow DAG for each share contract, from ``contracts/`` beside this file and from the folder SLUICE_CONTRACTS.

A contract that cannot be built becomes a placeholder that shows its report, so that it hides none of the others.
"""

import os
from pathlib import Path

from operators.folder import dags_from

_folders = [Path(__file__).parent / "contracts"]
if "SLUICE_CONTRACTS" in os.environ:
    _folders.append(Path(os.environ["SLUICE_CONTRACTS"]))

globals().update(dags_from(_folders))
