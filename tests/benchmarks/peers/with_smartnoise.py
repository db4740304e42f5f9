"""AIM and MST of SmartNoise Synthesizers.

Options: ``synthesizer``, aim or mst, and whatever that class takes. Its transformer is fitted to
public rows that hold each code of each column, so that the domain is not read from private ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from exchange import Codes, Job, Sampler, serve
from snsynth.aim import AIMSynthesizer
from snsynth.mst import MSTSynthesizer
from snsynth.transform import LabelTransformer, TableTransformer


def fit(job: Job, codes: Codes) -> Sampler:
    """The chosen synthesizer on labels of the public domain."""
    options = dict(job.options)
    chosen: Any = {"aim": AIMSynthesizer, "mst": MSTSynthesizer}[options.pop("synthesizer")]
    synthesizer = chosen(job.epsilon, delta=job.delta, **options)
    every_code = np.arange(max(job.sizes))[:, None] % np.asarray(job.sizes)
    transformer = TableTransformer([LabelTransformer(nullable=False) for _ in job.sizes])
    transformer.fit(pd.DataFrame(every_code, columns=job.names))
    synthesizer.fit(pd.DataFrame(codes, columns=job.names), transformer=transformer)
    return lambda rows: pd.DataFrame(synthesizer.sample(rows)).to_numpy()


if __name__ == "__main__":
    serve(fit)
