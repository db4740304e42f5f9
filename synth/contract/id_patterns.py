"""Patterns of made-up identifiers: ``#`` is a digit, ``@`` an upper-case letter A to Z, ``\\`` makes what follows
literal, and everything else stands for itself. ``CUST-########`` has a hundred million of them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

DIGITS, LETTERS = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ALPHABETS = {"#": DIGITS, "@": LETTERS}
_ESCAPE = "\\"


@dataclass(frozen=True)
class IdPattern:
    """What may stand at each place of an identifier.

    :ivar alphabets: one text of different characters a place.
    """

    alphabets: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> IdPattern:
        """The pattern of a text.

        :raises ValueError: if the text ends in a lone backslash.

        >>> IdPattern.of("A-#@").possible
        260
        """
        places, characters = [], iter(text)
        for character in characters:
            if character == _ESCAPE:
                character = next(characters, "")
                if not character:
                    raise ValueError("ends in a backslash that makes nothing literal; write it twice to mean itself")
                places.append(character)
            else:
                places.append(_ALPHABETS.get(character, character))
        return cls(tuple(places))

    @property
    def possible(self) -> int:
        """How many different identifiers there are."""
        return math.prod(len(alphabet) for alphabet in self.alphabets)

    @property
    def expression(self) -> str:
        """A regular expression that all of them, and nothing else, match as a whole."""
        classes = {DIGITS: "[0-9]", LETTERS: "[A-Z]"}
        return "".join(classes.get(alphabet) or re.escape(alphabet) for alphabet in self.alphabets)
