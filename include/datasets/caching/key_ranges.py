"""Guesses a key that divides the keys of a folder that have not been listed yet."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LENGTH = 64
"""Number of characters of a name that are compared."""

_AHEAD = 8
"""How many pages ahead of the last one to guess, if the names that follow are like those before."""


def find_division(names: Sequence[str], last: str | None) -> str | None:
    """Return a name between the last of these and `last`, or None if there is none in between.

    names are those of a page, in order; last is None if the names that follow may be any. The result is as
    far from the page as several pages are long, but not beyond the middle. It consists of characters that
    occur in the names, as those that follow probably do.
    """
    alphabet = sorted(set("".join(names)))
    if not alphabet:
        return None
    base = len(alphabet) + 1  # 0 is the end of a name
    first, low = _number(names[0], alphabet), _number(names[-1], alphabet)
    high = base**_LENGTH - 1 if last is None else _number(last, alphabet)
    found = _name(min(low + max(low - first, 1) * _AHEAD, (low + high) // 2), alphabet)
    return found if names[-1] < found and (last is None or found < last) else None


def _number(name: str, alphabet: Sequence[str]) -> int:
    """Return the name as a number whose digits are its characters: such numbers are ordered as names are."""
    base, number = len(alphabet) + 1, 0
    for character in name[:_LENGTH]:
        number = number * base + min(bisect_left(alphabet, character) + 1, len(alphabet))
    return int(number * base ** max(0, _LENGTH - len(name)))


def _name(number: int, alphabet: Sequence[str]) -> str:
    """Return the name of a number. A 0 within it becomes the first character of the alphabet."""
    base, digits = len(alphabet) + 1, []
    while number:
        number, digit = divmod(number, base)
        digits.append(digit)
    while digits and not digits[0]:
        digits.pop(0)
    return "".join(alphabet[max(digit - 1, 0)] for digit in reversed(digits))
