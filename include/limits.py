"""Limits on all input from outside; docs/parameters.md lists the same numbers.

Each limit is far above legitimate use and far below what would harm the machine. Input that exceeds a limit
is refused with an error message that names the limit. CHECK_MEMORY covers attacks that no other limit
anticipates.
"""

from __future__ import annotations

KIB, MIB, GIB = 1024, 1024**2, 1024**3

# Data YAML

YAML_BYTES = 10 * MIB
"""Size of the YAML file, and of its text with all aliases expanded. 10,000 names of 100 characters in any
script, even escaped (\\uXXXX), take 7 MB."""

YAML_NODES = 100_000
"""Number of mappings, sequences and scalars, with all aliases expanded."""

YAML_DEPTH = 20
"""Levels of nesting. A data YAML needs four levels."""

YAML_SCALAR = 64 * KIB
"""Length of one value. The longest value in Ultralytics' own files, a `download` script, has 4,000
characters."""

YAML_NUMBER = 18
"""Number of digits of a whole number: PostgreSQL and NumPy store it in 64 bits."""

CLASSES = 25_000
"""ImageNet-21K has 21,841."""

CLASS_NAME = 255
"""Characters; file systems have the same limit for the class folders of a classify dataset."""

KEYPOINTS = 1_000
CHANNELS = 256

# Labels and lists of images

LABEL_BYTES = 16 * MIB
"""50,000 boxes with 18 digits per number take 5 MB."""

LABEL_LINES = 100_000
LABEL_COLUMNS = 20_001
"""Number of values in one line: the class, and an outline of 10,000 points."""

LABEL_LINE = 512 * KIB
"""Characters."""

LIST_BYTES = 256 * MIB
"""Size of a .txt file that lists images."""

IMAGES = 1_500_000
"""Number of images in one split."""

REPEATS = 100
"""How often a list may repeat an image; each repetition becomes a separate file."""

FINDINGS_PER_FILE = 100
FINDINGS = 10_000
"""Number of problems after which a check stops, because nobody would read a longer report."""

PLACES_PER_KIND = 20
"""How many places of each kind of problem a report lists; further places are only counted."""

TINY_PIXELS = 2
"""Ultralytics drops boxes of at most this width or height from augmented images (box_candidates)."""

# Errors and reports

ERROR_BYTES = 4096
"""Size of `error` in a job's row; every listing of jobs contains it."""

SUMMARY_BYTES = 2800
"""Size of the summary of a dataset's problems in `error`; the URI of the complete report comes after it."""

REPORT_BYTES = 32 * MIB
"""Size of the complete report. FINDINGS problems of REPORTED_MESSAGE bytes, each with a path of PATH_BYTES,
fill about half of it."""

REPORTED_MESSAGE = 500
"""Size of one problem in the complete report, in bytes."""

# Names

NAME_BYTES = 255
"""Length of the name of a file or folder; file systems have the same limit."""

PATH_BYTES = 1024
"""Length of a file's path within its dataset; S3 has the same limit for keys."""

FOLDER_DEPTH = 64
"""Number of nested folders."""

# Archives and prefixes

ARCHIVE_BYTES = 50 * GIB
"""Unpacked size."""

ARCHIVE_FILES = 1_000_000
ARCHIVE_DIRECTORY = 256 * MIB
"""Size of the list of files at the end of a zip; enough for 256 bytes for each of a million files."""

PREFIX_OBJECTS = 4_000_000
"""Number of objects under an S3 prefix: images and labels of both splits, and some other files."""

LISTING_LINE = 8 * KIB
"""Length of a JSON line with an object's name, size and ETag; in JSON, a character takes up to 6 bytes."""

# Uploads

UPLOAD_FILES = 20_000
"""Number of files in one upload; more files upload faster as one zip."""

UPLOAD_BODY = 4 * MIB
"""Size of the list of files with which an upload begins; enough for UPLOAD_FILES paths of 150 characters."""

UPLOAD_PART = 16 * MIB
"""Size of the parts in which larger files are sent; an interrupted upload resends only unfinished parts."""

UPLOAD_FILES_IN_PARTS = 500
"""Number of files larger than UPLOAD_PART in one upload; each of them costs several requests to S3."""

UPLOAD_LINKS = 100
"""Number of links that one request signs."""

UPLOAD_LINK_SECONDS = 3600
"""How long a link is valid. S3 checks the link when the PUT starts."""

# Datasets in other formats

NDJSON_LINE = 16 * MIB
"""Size of a line: an image with all its annotations."""

COCO_VALUE = 64 * MIB
"""Length of one element of a COCO file, such as an image or an annotation."""

COCO_FILES = 100
"""Number of JSON files in a dataset that are searched for COCO annotations."""

COCO_ANNOTATIONS = 20_000_000
"""Number of annotations in all files of a dataset. Objects365 has 10 million in 600,000 images."""

URL_BYTES = 16 * KIB
"""Size of an image's URL; a signed one takes up to 4 KiB."""

URL_SECONDS = 600
"""Time for fetching one image from its URL."""

# Registered datasets

MANIFEST_LINE = 512 * KIB
"""Size of one image's line in a manifest, with counts of up to CLASSES classes."""

COMPARED_IMAGES = 300_000
"""Total number of images in two versions that the API server compares while a user waits. A comparison of
this size takes about three seconds."""

# Images

IMAGE_BYTES = 1 * GIB
IMAGE_PIXELS = 178_956_970
"""Twice Pillow's MAX_IMAGE_PIXELS: Pillow refuses larger images, so Ultralytics would skip them."""

# Pretrained weights

WEIGHTS_BYTES = 4 * GIB
"""Size of a file used as `model`; complete training states of the largest models take 1.5 GB."""

WEIGHTS_SECONDS = 1_800
"""Time for downloading a pretrained file; the largest files that Ultralytics publishes take 150 MB."""

# Signatures of models

SIGNATURE_BYTES = 64 * KIB
"""Size of a signature; the signatures that promotion makes take about 1 KiB."""

# The process that checks

CHECK_MEMORY = 4 * GIB
"""Address space that the process may add to what it uses at its start; a million images take about 1 GiB."""

CHECK_CPU_SECONDS = 600
"""CPU time that the process may use between two messages; it reports progress every ten seconds."""

# Requests

TEXT = 1024
"""Length of a text parameter; S3 has the same limit for keys."""

OVERRIDES_VALUES = 1_000
"""Number of values in `overrides`, including the items of lists. Ultralytics has 113 arguments."""

OVERRIDES_DEPTH = 4
METRICS = 1_000
"""Number of entries in `metrics`."""


def in_words(size: int) -> str:
    """Return a number of bytes in a readable unit, exact if it is a whole number of units."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            number = size / unit
            return f"{number:.0f} {name}" if number.is_integer() else f"{number:.1f} {name}"
    return f"{size} bytes"
