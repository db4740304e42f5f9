"""Who may open what, as far as a text search can tell; imports are checked by import-linter."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_only_the_steps_name_the_private_part_of_a_workspace() -> None:
    sources = [path for folder in ("synth", "operators", "dags") for path in (ROOT / folder).rglob("*.py")]
    naming = {
        path.relative_to(ROOT).as_posix()
        for path in sources
        if re.search(r'"private["/]', path.read_text(encoding="utf-8"))
    }
    assert naming == {"synth/steps.py", "synth/workspace.py"}
