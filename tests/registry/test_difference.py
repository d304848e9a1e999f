"""Two versions are compared line by line, whatever the order in which a check found the files."""

from __future__ import annotations

import gzip
import json
import random
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from include.datasets.reference import ClassCount
from include.limits import MANIFEST_LINE
from include.registry import manifests
from include.registry.difference import EXAMPLES, FileDifference, compare, compare_classes
from include.registry.manifests import ManifestEntry, open_manifest, store_manifest
from include.s3.bucket import Bucket
from include.s3.errors import CorruptObject
from include.s3.layout import build_manifest_key

IMAGE, OTHER_IMAGE, LABEL, OTHER_LABEL = ("1" * 64, "2" * 64, "3" * 64, "4" * 64)


def _line(name: str, split: str = "train", image: str = IMAGE, label: str | None = LABEL) -> dict[str, Any]:
    return {
        "split": split,
        "name": name,
        "image": image,
        "label": label,
        "width": 640,
        "height": 480,
        "classes": {"0": 3},
    }


def _write(path: Path, lines: Iterable[dict[str, Any]]) -> Path:
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return path


def _entries(*lines: dict[str, Any]) -> list[ManifestEntry]:
    found = (
        ManifestEntry(json.dumps(line["name"]), line["split"], line["image"], line["label"]) for line in lines
    )
    return sorted(found)


def _counts(found: FileDifference) -> dict[str, int]:
    return {name: changes.count for name, changes in found if changes.count}


def test_each_kind_of_change_is_counted_once_and_named() -> None:
    before = _entries(
        _line("same.jpg"),
        _line("gone.jpg"),
        _line("redrawn.jpg"),
        _line("relabelled.jpg"),
        _line("moved.jpg"),
        _line("moved and relabelled.jpg", "val"),
    )
    after = _entries(
        _line("same.jpg"),
        _line("new.jpg", "val"),
        _line("redrawn.jpg", image=OTHER_IMAGE, label=OTHER_LABEL),
        _line("relabelled.jpg", label=None),
        _line("moved.jpg", "val"),
        _line("moved and relabelled.jpg", label=OTHER_LABEL),
    )
    found = compare(before, after)
    assert _counts(found) == {"added": 1, "removed": 1, "changed": 1, "labels_changed": 2, "moved": 2}
    assert [image.name for image in found.added.examples] == ["new.jpg"]
    assert [image.name for image in found.labels_changed.examples] == [
        "moved and relabelled.jpg",
        "relabelled.jpg",
    ]
    moved = {image.name: (image.moved_from, image.split) for image in found.moved.examples}
    assert moved == {"moved.jpg": ("train", "val"), "moved and relabelled.jpg": ("val", "train")}


def test_another_image_of_the_same_name_in_another_split_is_not_a_move() -> None:
    found = compare(_entries(_line("0001.jpg")), _entries(_line("0001.jpg", "val", image=OTHER_IMAGE)))
    assert _counts(found) == {"added": 1, "removed": 1}


def test_a_name_in_both_splits_is_compared_within_each_split() -> None:
    before = _entries(_line("a.jpg"), _line("a.jpg", "val", image=OTHER_IMAGE))
    after = _entries(_line("a.jpg", label=None), _line("a.jpg", "val", image=OTHER_IMAGE))
    assert _counts(compare(before, after)) == {"labels_changed": 1}


def test_a_long_difference_is_counted_completely_and_names_only_examples() -> None:
    every = _entries(*(_line(f"{number}.jpg") for number in range(3 * EXAMPLES)))
    assert _counts(compare([], every)) == {"added": 3 * EXAMPLES}
    assert len(compare(every, []).removed.examples) == EXAMPLES
    assert _counts(compare(every, every)) == {}


def test_a_stored_manifest_is_sorted_for_any_order_of_the_check(
    s3_client: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "_SORTED_AT_ONCE", 4096)  # some twenty lines
    names = [f"{folder}/{number:03}.jpg" for folder in ("b", "a b", "a", "ä\t") for number in range(100)]
    random.Random(0).shuffle(names)
    written = _write(tmp_path / "manifest", (_line(name) for name in names))
    kept = Bucket(s3_client, bucket)
    store_manifest(kept, written, "0f" * 32, "detect")
    with open_manifest(kept, "0f" * 32, "detect") as entries:
        found = [json.loads(entry.key) for entry in entries]
    assert sorted(found) == sorted(names)
    assert found == sorted(names, key=json.dumps)
    unpacked = kept.read(build_manifest_key("0f" * 32, "detect"), 2**20, gzip.decompress) or b""
    assert json.loads(unpacked.splitlines()[0])["classes"] == {"0": 3}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"no gzip", id="no gzip"),
        pytest.param(gzip.compress(b'{"name": "a.jpg"}\n'), id="fields missing"),
        pytest.param(gzip.compress(b"[]\n"), id="no object"),
        pytest.param(
            gzip.compress(b'{"name": 1, "split": "train", "image": "x", "label": null}\n'),
            id="a number as a name",
        ),
        pytest.param(
            gzip.compress(b'{"name": "a.jpg", "split": "training", "image": "x", "label": null}\n'),
            id="an unknown split",
        ),
        pytest.param(gzip.compress(b"x" * (MANIFEST_LINE + 2)), id="a line too long"),
        pytest.param(
            gzip.compress(b'{"name": "a.jpg", "split": "train", "image": "x", "label": null}\n')[:-9],
            id="cut short",
        ),
        pytest.param(
            gzip.compress(
                b'{"name": "b.jpg", "split": "train", "image": "x", "label": null}\n'
                b'{"name": "a.jpg", "split": "train", "image": "x", "label": null}\n'
            ),
            id="not sorted",
        ),
    ],
)
def test_a_damaged_manifest_is_called_damaged(s3_client: Any, bucket: str, content: bytes) -> None:
    kept = Bucket(s3_client, bucket)
    kept.put(build_manifest_key("0f" * 32, "detect"), content)
    with (
        pytest.raises(CorruptObject, match="is damaged"),
        open_manifest(kept, "0f" * 32, "detect") as entries,
    ):
        list(entries)


@pytest.mark.parametrize("damaged", ["0a" * 32, "0b" * 32])
def test_the_damaged_one_of_two_manifests_is_named(
    s3_client: Any, bucket: str, tmp_path: Path, damaged: str
) -> None:
    kept = Bucket(s3_client, bucket)
    for fingerprint in ("0a" * 32, "0b" * 32):
        store_manifest(kept, _write(tmp_path / "manifest", [_line("a.jpg")]), fingerprint, "detect")
    kept.put(build_manifest_key(damaged, "detect"), b"no gzip")
    with (
        pytest.raises(CorruptObject, match=f"{damaged}.* is damaged"),
        open_manifest(kept, "0a" * 32, "detect") as before,
        open_manifest(kept, "0b" * 32, "detect") as after,
    ):
        compare(before, after)


def test_an_error_of_the_reader_does_not_count_as_damage_of_the_manifest(
    s3_client: Any, bucket: str, tmp_path: Path
) -> None:
    kept = Bucket(s3_client, bucket)
    store_manifest(kept, _write(tmp_path / "manifest", [_line("a.jpg")]), "0f" * 32, "detect")
    with pytest.raises(ValueError, match="of the reader"), open_manifest(kept, "0f" * 32, "detect"):
        raise ValueError("of the reader")


def test_a_name_that_is_not_unicode_can_be_shown() -> None:
    odd = b"a\xe9.jpg".decode("utf-8", "surrogateescape")
    found = compare([], _entries(_line(odd), _line("\u202egpj.exe")))
    assert [image.name for image in found.added.examples] == ["\\u202egpj.exe", "a\\udce9.jpg"]
    found.model_dump_json()


def test_the_memory_of_a_comparison_does_not_depend_on_the_number_of_images() -> None:
    def entries(number: int, label: str) -> Iterator[ManifestEntry]:
        return (ManifestEntry(f'"{index:08}"', "train", IMAGE, label) for index in range(number))

    compare(entries(10, LABEL), entries(10, OTHER_LABEL))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = compare(entries(200_000, LABEL), entries(200_000, OTHER_LABEL))
    assert found.labels_changed.count == 200_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000  # KiB


def _class(name: str, train: int = 5) -> ClassCount:
    return ClassCount(name=name, train=train, val=1, train_images=2, val_images=1)


def test_classes_are_compared_by_name() -> None:
    found = compare_classes(
        [_class("bolt"), _class("nut")], [_class("bolt", 9), _class("nut"), _class("washer")]
    )
    assert found is not None
    assert (found.added, found.removed, found.renumbered) == (1, 0, False)
    assert [(change.name, change.before and change.before.train) for change in found.changes] == [
        ("bolt", 5),
        ("washer", None),
    ]


def test_a_changed_numbering_of_classes_is_reported() -> None:
    found = compare_classes([_class("bolt"), _class("nut")], [_class("nut"), _class("bolt")])
    assert found is not None
    assert found.renumbered
    assert found.changes == []
    assert compare_classes(None, [_class("nut")]) is None
