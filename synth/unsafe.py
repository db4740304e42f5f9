"""Runs that can be repeated to the bit, and are not private.

With an unsafe seed all that a run draws comes from generators seeded with it: noise, Poisson coins, the record kept of
a unit, the key of the split, the seed of sampling. Two such runs on the same rows give the same rows. Whoever knows
the seed can take the noise off, so such a run is stamped NOT PRIVATE in all it leaves behind, can be neither approved
nor published, and is charged like any other, because it looks at the same rows.

The seed belongs to the run, not to a step: it is in the workspace before the first step that is given it draws
anything, and in the ledger with the reservation. So a later step without the flag cannot shed it, and a run that
reserved its budget without it can never get one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from synth.errors import NotPrivate
from synth.randomness import seeded
from synth.release.stamp import NOT_PRIVATE
from synth.run import Run

_RECORD = "public/unsafe_seed.json"


def seed_of(run: Run) -> int | None:
    """The seed on record, whatever the run is continued with; None for a run of secret randomness."""
    if run.workspace.exists(_RECORD):
        return int(run.workspace.read_json(_RECORD)["unsafe_seed"])
    return reserved_seed(run)


def reserved_seed(run: Run) -> int | None:
    """The seed that the reservation names: all that is known of it without the workspace."""
    reserved = run.ledger.find(run.policy_name, run.name, "reserve")
    seed = reserved.payload["details"].get("unsafe_seed") if reserved is not None else None
    return None if seed is None else int(seed)


def begin(run: Run) -> int | None:
    """Put on record the seed that a run is started with, if any; returns the one that counts.

    :raises NotPrivate: if the run was begun without a seed, or with another one.
    """
    recorded = seed_of(run)
    if run.unsafe_seed is None or run.unsafe_seed == recorded:
        return recorded
    if recorded is None and run.ledger.find(run.policy_name, run.name, "reserve") is None:
        run.workspace.write_json(_RECORD, {"unsafe_seed": run.unsafe_seed})
        recorded = seed_of(run)
    if recorded != run.unsafe_seed:
        begun = "without a seed" if recorded is None else "with another seed"
        raise NotPrivate(
            f"run {run.name!r} was begun {begun}, and --unsafe-seed cannot be given to it later: start a new run"
        )
    return recorded


@contextmanager
def drawing(seed: int | None, step: str) -> Iterator[None]:
    """While a step runs: what it draws comes from the seed, if there is one."""
    if seed is None:
        yield
    else:
        with seeded(seed, step):
            yield


def refuse_not_private(run: Run) -> None:
    """Nothing of a run with an unsafe seed is decided on or let out.

    :raises NotPrivate: if it has one.
    """
    if seed_of(run) is not None:
        raise NotPrivate(
            f"run {run.name!r} is {NOT_PRIVATE}: it was begun with --unsafe-seed, so it can be neither approved nor "
            "published, whatever was decided; start a new run without the flag"
        )


def split_of(run: Run, seed: int | None) -> tuple[bytes, str]:
    """The key of the split and what names it in the ledger: the policy's, or of a seeded run its own.

    A split of its own is charged as one: a person may be in either branch of each.
    """
    split_id = run.registered.split_id(run.contract, run.schema)
    key = run.registered.split_key(run.settings.keys)
    if seed is None:
        return key, split_id
    own = f"unsafe seed {seed}"
    return hashlib.sha256(own.encode()).digest(), hashlib.sha256(f"{split_id} {own}".encode()).hexdigest()[:32]
