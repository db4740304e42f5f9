"""AIM and MST of dpmm, on its own copy of Private-PGM.

Options: ``model``, aim or mst, and whatever that class takes. One process: on small machines its pool of workers costs
more than it saves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from dpmm.models.aim import AIMGM
from dpmm.models.mst import MSTGM
from exchange import Codes, Job, Sampler, serve


def fit(job: Job, codes: Codes) -> Sampler:
    """The chosen graphical model, whose domain is the public one."""
    options = dict(job.options)
    chosen: Any = {"aim": AIMGM, "mst": MSTGM}[options.pop("model")]
    model = chosen(
        epsilon=job.epsilon,
        delta=job.delta,
        domain=dict(zip(job.names, job.sizes, strict=True)),
        random_state=np.random.RandomState(job.seed),
        n_jobs=1,
        **options,
    )
    model.fit(pd.DataFrame(codes, columns=job.names))
    return lambda rows: model.generate(n_records=rows)[job.names].to_numpy()


if __name__ == "__main__":
    serve(fit)
