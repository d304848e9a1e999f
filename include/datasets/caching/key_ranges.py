"""Guesses a key at which to divide the part of a folder that has not been listed yet."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LENGTH = 64
"""How many characters of a name are considered."""

_AHEAD = 8
"""How many pages ahead the guessed name is, if the following names are as close together as those so far."""


def find_division(names: Sequence[str], last: str | None) -> str | None:
    """Guess a name between the last element of `names` and `last`; return None if the guess is not there.

    `names` are the names on one page, in order; `last` is None if there is no upper bound. The distance of
    the guess from the last of `names` is _AHEAD times the page's range, but at most half of the remaining
    range. The guess consists of characters that occur in `names`, because the following names probably
    consist of the same characters.
    """
    alphabet = sorted(set("".join(names)))
    if not alphabet:
        return None
    base = len(alphabet) + 1  # 0 is the end of a name
    first, low = _to_number(names[0], alphabet), _to_number(names[-1], alphabet)
    high = base**_LENGTH - 1 if last is None else _to_number(last, alphabet)
    found = _to_name(min(low + max(low - first, 1) * _AHEAD, (low + high) // 2), alphabet)
    return found if names[-1] < found and (last is None or found < last) else None


def _to_number(name: str, alphabet: Sequence[str]) -> int:
    """Return the name as a number whose digits are its characters, so that numbers sort like names."""
    base, number = len(alphabet) + 1, 0
    for character in name[:_LENGTH]:
        number = number * base + min(bisect_left(alphabet, character) + 1, len(alphabet))
    return int(number * base ** max(0, _LENGTH - len(name)))


def _to_name(number: int, alphabet: Sequence[str]) -> str:
    """Return the name that a number represents.

    Zeros at its end are omitted; any other 0 becomes the first character of the alphabet.
    """
    base, digits = len(alphabet) + 1, []
    while number:
        number, digit = divmod(number, base)
        digits.append(digit)
    while digits and not digits[0]:
        digits.pop(0)
    return "".join(alphabet[max(digit - 1, 0)] for digit in reversed(digits))
