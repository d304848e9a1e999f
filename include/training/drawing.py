"""Drawing the pictures of a training run, which must not end because of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from include.training.library_errors import format_error

log = logging.getLogger(__name__)


def draw_texts_as_they_are() -> None:
    """Make matplotlib draw class names with several dollar signs, which it would otherwise read as formulas.

    A name that is not a valid formula, such as $$, would raise an error in the last epoch's validation.
    """
    import matplotlib as mpl  # imported late, because training starts sooner without it

    mpl.rcParams["text.parse_math"] = False


@contextmanager
def tolerate_drawing_errors(picture: str) -> Iterator[None]:
    """Log any error of the block, which draws `picture`: the training run does not depend on it."""
    try:
        yield
    except Exception as error:  # matplotlib and Ultralytics raise many kinds
        log.warning("%s could not be drawn: %s", picture, format_error(error))
