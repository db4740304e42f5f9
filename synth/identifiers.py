"""Identifiers of released rows, made up from the sampling seed and the row's number: no private row has a part in it.

Row i gets number (a i + b) modulo the number of possible identifiers, with a and that number free of common factors: so
no two rows of a release have the same, chunk by chunk, and nothing has to be remembered. That one of them is by chance
the identifier of a person cannot be ruled out without looking at those, so nobody looks.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from synth.contract.id_patterns import IdPattern

_MOST_NUMBERS = 2**62  # of longer patterns the first places stay the same
_MOST_FACTOR = 2**31  # times a row's number, which is below 2**30, fits 64 bits
_TAG = 1  # keeps this generator apart from those of the blocks of rows, which are seeded by two numbers


def made_up_ids(pattern: IdPattern, first: int, count: int, seed: int, place: int) -> npt.NDArray[np.str_]:
    """Identifiers of rows ``first`` and on, shape (count,).

    :param seed: the release's sampling seed, which is public.
    :param place: the column's place in the release: columns of one pattern are not alike.
    :raises ValueError: if there are fewer possible ones than rows up to here.
    """
    possible = min(pattern.possible, _MOST_NUMBERS)
    if first + count > possible:
        raise ValueError(f"Expected a pattern of at least {first + count:,} identifiers, given one of {possible:,}.")
    generator = np.random.default_rng([seed, place, _TAG])
    factor, shift = (int(generator.integers(1, min(possible, most) + 1)) for most in (_MOST_FACTOR, _MOST_NUMBERS))
    while math.gcd(factor, possible) > 1:
        factor = factor % _MOST_FACTOR + 1
    numbers = (factor * np.arange(first, first + count, dtype=np.int64) % possible + shift) % possible
    places = np.empty((count, len(pattern.alphabets)), dtype="U1")
    for i in reversed(range(len(pattern.alphabets))):
        alphabet = np.array(list(pattern.alphabets[i]))
        places[:, i] = alphabet[numbers % len(alphabet)]
        numbers //= len(alphabet)
    return np.ascontiguousarray(places).view(f"U{len(pattern.alphabets)}").reshape(count)
