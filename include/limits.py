"""The most that is accepted from outside, in one place; docs/parameters.md has the same numbers.

Each limit lies far above honest use and far below what would hurt this machine. What exceeds one is refused
with a sentence that names the limit. CHECK_MEMORY is for what nobody thought of.
"""

from __future__ import annotations

KIB, MIB, GIB = 1024, 1024**2, 1024**3

# Data YAML

YAML_BYTES = 10 * MIB
"""Of the file, and of its text after each alias was replaced by what it stands for: 10,000 names of 100
characters in any script, even escaped (\\uXXXX), are 7 MB."""

YAML_NODES = 100_000
"""Mappings, sequences and scalars, after each alias was replaced."""

YAML_DEPTH = 20
"""Levels of nesting. A data YAML needs four."""

YAML_SCALAR = 64 * KIB
"""Characters of one value. The longest in Ultralytics' own files, the program in `download`, has 4,000."""

YAML_NUMBER = 18
"""Digits of a whole number: what PostgreSQL and NumPy hold in 64 bits."""

CLASSES = 25_000
"""ImageNet-21K has 21,841."""

CLASS_NAME = 255
"""Characters. A folder of a classify dataset cannot have a longer name either."""

KEYPOINTS = 1_000
CHANNELS = 256

# Labels and lists of images

LABEL_BYTES = 16 * MIB
"""50,000 boxes with 18 digits a number are 5 MB."""

LABEL_LINES = 100_000
LABEL_COLUMNS = 20_001
"""The class and an outline of 10,000 points."""

LABEL_LINE = 512 * KIB
"""Characters."""

LIST_BYTES = 256 * MIB
"""Of a .txt file that lists images."""

IMAGES = 1_500_000
"""In one split."""

REPEATS = 100
"""Of one image in a list, each of which becomes files of its own."""

FINDINGS_PER_FILE = 100
FINDINGS = 10_000
"""What a check collects before it stops: nobody reads more."""

# What is said of it

ERROR_BYTES = 4096
"""Of `error` in a job's row, which every listing carries."""

SUMMARY_BYTES = 2800
"""Of a dataset's problems in it; the address of the whole report follows."""

REPORT_BYTES = 32 * MIB
"""Of that report: FINDINGS with paths of PATH_BYTES are half of it."""

REPORTED_MESSAGE = 500
"""Bytes of one problem in it."""

# Names

NAME_BYTES = 255
"""Of a file or folder, as file systems have it."""

PATH_BYTES = 1024
"""Of a file's path within its dataset, as S3 has it for keys."""

FOLDER_DEPTH = 64
"""Folders inside each other."""

# Archives and prefixes

ARCHIVE_BYTES = 50 * GIB
"""After unpacking."""

ARCHIVE_FILES = 1_000_000
ARCHIVE_DIRECTORY = 256 * MIB
"""Bytes of the list of files at the end of a zip: 256 for each of a million."""

PREFIX_OBJECTS = 4_000_000
"""Below an S3 prefix: a label for each image of both splits, and some more."""

LISTING_LINE = 8 * KIB
"""Bytes of an object's name, size and ETag as JSON, in which a character takes up to six."""

# Images

IMAGE_BYTES = 1 * GIB
IMAGE_PIXELS = 178_956_970
"""Twice Pillow's MAX_IMAGE_PIXELS. Ultralytics opens every image with Pillow and leaves out larger ones."""

# Pretrained weights

WEIGHTS_BYTES = 4 * GIB
"""Of a file that is a job's `model`: whole states of the largest models take 1.5 GB."""

WEIGHTS_SECONDS = 1_800
"""For the transfer of a pretrained file: the largest of those that Ultralytics publishes have 150 MB."""

# The process that checks

CHECK_MEMORY = 4 * GIB
"""Address space beyond what the process has when it begins; a million images take 1.6 GiB."""

CHECK_CPU_SECONDS = 600
"""Between two messages of the process, which reports its progress every ten seconds."""

# Requests

TEXT = 1024
"""Characters of a text parameter: an S3 key has at most as many."""

OVERRIDES_VALUES = 1_000
"""Values in `overrides`, those of lists included. There are 130 arguments."""

OVERRIDES_DEPTH = 4
METRICS = 1_000
"""Entries of `metrics`."""


def in_words(size: int) -> str:
    """Write a number of bytes for a person, exactly where it is round."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            number = size / unit
            return f"{number:.0f} {name}" if number.is_integer() else f"{number:.1f} {name}"
    return f"{size} bytes"
