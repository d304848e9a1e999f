"""The kinds of problems that a check of a dataset finds, with a remedy for each kind.

Ultralytics skips an image that it cannot read, or whose labels break its rules, and only writes a line to its
log. This check reports an error instead. Data that Ultralytics trains on, but probably not as intended, cause
a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from include.limits import TINY_PIXELS

KindName = Literal[
    "other", "links", "list", "class-folders", "image", "decode", "label-file", "label-form",
    "label-number", "label-finite", "label-class", "label-range", "label-box", "label-mixed", "label-map",
    "no-labels", "nothing-to-learn", "annotations", "export", "fetch", "stopped",
    "duplicate-rows", "duplicate-images", "leaked-images", "missing-labels", "empty-labels", "empty-maps",
    "tiny-boxes", "outside", "visibility", "mixed-labels", "class-unseen", "class-unvalidated",
    "class-names", "divided", "empty-folders", "conversion", "unused-labels", "classless-images",
    "unread-images", "circular-links",
]  # fmt: skip
"""The name of a kind, as in reports."""


@dataclass(frozen=True)
class Kind:
    """One kind of problem."""

    title: str
    """The problem, in the plural; reports put a number beside it."""
    remedy: str
    """The advice for the user, as an imperative."""
    reason: str = ""
    """Why the problem matters, if that is not obvious."""


_LEFT_OUT = "Ultralytics would skip these images, and only write a line to its log"

ERRORS: dict[KindName, Kind] = {
    "other": Kind("other problems", "correct each in the file or line given"),
    "links": Kind("links to files outside the dataset", "replace the links with the files themselves"),
    "list": Kind(
        "lines in image lists that do not name a usable image",
        "correct the paths in the list, or add the images",
    ),
    "class-folders": Kind(
        "class folders that are empty, or missing in train/",
        "give train/ and the other splits the same class folders",
    ),
    "image": Kind("images that training cannot use", "restore, convert or remove them", _LEFT_OUT),
    "decode": Kind(
        "images that training cannot decode",
        "convert them to JPEG or PNG",
        "Ultralytics accepts them when it scans the dataset, and fails when it trains on them",
    ),
    "label-file": Kind("label files that cannot be read", "save them as UTF-8 text", _LEFT_OUT),
    "label-form": Kind("label lines in a different format", "write them in the task's format", _LEFT_OUT),
    "label-number": Kind("label lines with values that are not numbers", "correct them", _LEFT_OUT),
    "label-finite": Kind(
        "label lines with infinite numbers or NaN",
        "correct them",
        "Ultralytics would train on some of these images",
    ),
    "label-class": Kind(
        "label lines with an unknown class", "correct the class ids, or add the classes to names", _LEFT_OUT
    ),
    "label-range": Kind(
        "label lines with a position outside the image",
        "write positions as fractions of the image's width and height, from 0 to 1",
        _LEFT_OUT,
    ),
    "label-box": Kind(
        "poses whose box lies outside the image",
        "correct the first four numbers after the class",
        "Ultralytics does not check the boxes of poses, and would train on them",
    ),
    "label-mixed": Kind("files that mix boxes and outlines", "use one kind of label in each file", _LEFT_OUT),
    "label-map": Kind("masks or depth maps that training cannot use", "correct or add them", _LEFT_OUT),
    "no-labels": Kind("splits without labels", "add the label files at the paths listed"),
    "nothing-to-learn": Kind(
        "splits without anything to learn from or to measure", "label some images of the split"
    ),
    "annotations": Kind(
        "problems in COCO annotations", "correct each as described, or export the dataset again"
    ),
    "export": Kind(
        "lines of the export that cannot be used", "correct each as described, or export the dataset again"
    ),
    "fetch": Kind("images that cannot be fetched from their URLs", "follow the advice given for each"),
    "stopped": Kind("unfinished checks", "correct the problems that are listed, and check again"),
}

WARNINGS: dict[KindName, Kind] = {
    "duplicate-rows": Kind("repeated label lines", "remove them", "Ultralytics keeps one of each"),
    "duplicate-images": Kind(
        "images with the same content as another image of the same split",
        "remove them, unless they should count more than once",
    ),
    "leaked-images": Kind(
        "validation images that are also training images",
        "remove them from one of the splits",
        "they make the model look better than it is",
    ),
    "missing-labels": Kind(
        "images without a label file",
        "add their labels, unless they show no objects",
        "images without labels count as background",
    ),
    "empty-labels": Kind(
        "images with an empty label file",
        "label them, unless they show no objects",
        "images without labels count as background",
    ),
    "empty-maps": Kind(
        "masks without a class and depth maps without a distance",
        "label them, or remove the images",
        "nothing is learnt from them",
    ),
    "tiny-boxes": Kind(
        f"boxes at most {TINY_PIXELS} pixels wide or high",
        "check these labels",
        "Ultralytics drops such boxes from augmented images, unless resizing to imgsz enlarges them",
    ),
    "outside": Kind(
        "outlines or corners that extend beyond the image",
        "correct them, unless the object itself is cut off by the edge of the image",
        "Ultralytics clips outlines and corners to the image",
    ),
    "visibility": Kind(
        "keypoints with a visibility other than 0, 1 or 2",
        "write 0 for keypoints that are not labelled",
        "Ultralytics treats every other value as visible",
    ),
    "mixed-labels": Kind(
        "splits in which some files have boxes and others outlines",
        "use one kind of label",
        "Ultralytics trains on boxes only, and replaces each outline by the box around it",
    ),
    "class-unseen": Kind(
        "classes without an instance in train", "label some instances, or remove the classes"
    ),
    "class-unvalidated": Kind(
        "classes without an instance in the validation split",
        "move some images to the validation split",
        "nothing is measured for these classes",
    ),
    "class-names": Kind("names that several classes share", "give each class its own name"),
    "divided": Kind(
        "class folders without train/ and val/",
        "put the images into train/ and val/ if it matters which images are in which split",
        "80 % of the images of each class are used for training, the same ones that Ultralytics chooses",
    ),
    "empty-folders": Kind(
        "folders of train/ without an image",
        "remove these folders, or add images",
        "a folder without images does not count as a class",
    ),
    "conversion": Kind(
        "parts of the dataset that the conversion skipped or replaced",
        "check that nothing is missing",
        "the converters of Ultralytics do the same",
    ),
    "unused-labels": Kind(
        "folders with label files that belong to no image",
        "add the images, or remove the label files",
        "Ultralytics ignores them",
    ),
    "classless-images": Kind(
        "folders with images outside of the class folders",
        "move each image into the folder of its class",
        "Ultralytics ignores them",
    ),
    "unread-images": Kind(
        "folders with images of formats that Ultralytics does not read",
        "convert these images to JPEG or PNG",
        "they are ignored",
    ),
    "circular-links": Kind(
        "links that form a loop",
        "remove them; they were not followed",
        "Ultralytics itself would train on each image behind such a link about 40 times",
    ),
}

KINDS = ERRORS | WARNINGS
"""All kinds. Reports list errors and warnings in this order."""
