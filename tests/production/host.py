"""The name by which a process tells Airflow where it runs: containers have host names of their own, these share one."""

from __future__ import annotations

import os

CALLABLE = f"{__name__}.name"
VARIABLE = "SLUICE_TEST_HOST"


def name() -> str:
    return os.environ[VARIABLE]
