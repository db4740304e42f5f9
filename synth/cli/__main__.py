"""``python -m synth.cli``."""

from synth.cli.app import app

app()
