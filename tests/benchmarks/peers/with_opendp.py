"""AIM and MST of OpenDP's contributed module for Private-PGM.

Options: ``algorithm``, AIM or MST, and whatever that class takes. Rows are sampled, not rounded: rounding, the default,
loses dependence between columns that share no measured table in the version of Private-PGM that OpenDP asks for.
"""

from __future__ import annotations

import opendp.prelude as dp
import polars as pl
from exchange import Codes, Job, Sampler, rho_for, serve

dp.enable_features("contrib")


def fit(job: Job, codes: Codes) -> Sampler:
    """A contingency table whose keys are the public domain, under zero-concentrated DP."""
    options = dict(job.options)
    algorithm = getattr(dp.mbi, options.pop("algorithm"))(**options)
    rho = rho_for(job.epsilon, job.delta)
    context = dp.Context.compositor(
        data=pl.LazyFrame(codes, schema=dict.fromkeys(job.names, pl.Int64)),
        privacy_unit=dp.unit_of(contributions=1),
        privacy_loss=dp.loss_of(rho=rho),
    )
    keys = {name: list(range(size)) for name, size in zip(job.names, job.sizes, strict=True)}
    table = context.query(rho=rho).contingency_table(keys=keys, algorithm=algorithm).release()
    # A null is a key that OpenDP adds to each column; the data holds none, noise may give it some rows.
    return lambda rows: table.synthesize(rows, method="sample").select(job.names).fill_null(0).to_numpy()


if __name__ == "__main__":
    serve(fit)
