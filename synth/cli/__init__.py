"""The command line: ``sluice contract | plan | run | decide | settle | sweep | budget | keys | verify``.

Exit codes: 0 done, 1 refused (the text says why and what to do), 2 wrong usage, 3 waiting for a person's approval,
75 something that may work later (a database or bucket that cannot be reached).
"""

from synth.cli.app import app

__all__ = ["app"]
