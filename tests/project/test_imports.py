"""Imports obey the package order, and CONTRIBUTING.md's table of modules that folders must not import."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]

FLOORS = [
    {"s3", "schema", "serving"},
    {"checkpoints", "datasets"},
    {"pictures", "reports", "training"},
    {"jobs", "watchdog"},
    {"models", "registry", "tracking"},
    {"audit", "retraining", "weights"},
    {"deployment"},
    {"claim"},
    {"attempt"},
    {"orchestration"},
    {"api", "tasks"},
    {"console"},
    {"stack"},
]
"""Layers of packages in include/, lowest first: a package imports only from lower layers and include/*.py."""

MEANS = {
    "Airflow": {"airflow"},
    "S3": {"boto3", "botocore", "mypy_boto3_s3", "s3transfer"},
    "PyTorch": {"torch", "torchvision", "ultralytics"},
    "implementation libraries": {"boto3", "botocore", "requests", "s3transfer", "torch", "ultralytics"},
    "the applications": {"include.api", "include.console"},
    "everything else": {""},
}
"""The modules that each entry in the column "must not import" forbids; "" stands for all modules."""

IMPORT_BOTO3 = {
    "include/deployment/s3_hook.py",  # adapts Airflow's S3Hook, whose sessions are those of boto3
}
"""Modules outside include/s3 that may import S3's libraries; so may include/stack, which runs S3 servers."""

S3_REQUEST = re.compile(
    r"translate_s3_errors|client\.(?:get|put|head|list|delete|copy|create|abort|complete|upload|generate)_\w+\("
)
"""Matches code that sends a request with a boto3 client, or translates the errors of such a request."""


class Import(NamedTuple):
    """A statement that imports `name`; only_types is True if only a type checker executes the statement."""

    file: Path
    line: int
    name: str
    only_types: bool = False

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.name}"


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(ROOT.glob("include/**/*.py"))}


@cache
def imports_of(file: Path) -> tuple[Import, ...]:
    """Return all imports of a file, including those within functions."""
    return tuple(_imports_of(file))


def _imports_of(file: Path) -> Iterator[Import]:
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(file.read_text(encoding="utf-8")), False)]
    while pending:
        node, only_types = pending.pop()
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, each.name, only_types) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{file}:{node.lineno} imports relatively"
            for each in node.names:
                full = f"{node.module}.{each.name}"
                yield Import(file, node.lineno, full if full in FILES else node.module, only_types)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += [(child, True) for child in node.body]
            pending += [(child, only_types) for child in node.orelse]
        else:
            pending += [(child, only_types) for child in ast.iter_child_nodes(node)]


def forbidden() -> dict[str, str]:
    """Return the folders of the table in CONTRIBUTING.md, each with its cell of forbidden modules."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`(?:include|dags|plugins)/.+?) \| .+ \| ?(.*?) ?\|$", text, flags=re.MULTILINE)
    return {folder: unknown for folders, unknown in rows for folder in re.findall(r"`([^`]+)`", folders)}


def modules_for(unknown: str) -> set[str]:
    """Return the modules that a cell of the table forbids; fail for an entry that is missing in MEANS."""
    words = {unknown} if unknown in MEANS else set(filter(None, unknown.split(", ")))
    assert words <= set(MEANS), f"define in MEANS the modules that {unknown!r} in CONTRIBUTING.md forbids"
    return set().union(*(MEANS[word] for word in words))


def package_of(module: str) -> str | None:
    """Return the package of include/ that contains a module; None for other modules and for include/*.py."""
    parts = module.split(".")
    is_package = len(parts) > 2 or (FILES.get(module) or Path()).name == "__init__.py"
    return parts[1] if parts[0] == "include" and len(parts) > 1 and is_package else None


def test_the_table_of_folders_is_complete() -> None:
    packages = {f"include/{name}/" for name in map(package_of, FILES) if name}
    assert packages <= set(forbidden()), "the table in CONTRIBUTING.md must have every package"


@pytest.mark.parametrize(("folder", "unknown"), forbidden().items(), ids=lambda value: value)
def test_no_folder_imports_a_module_that_is_forbidden_for_it(folder: str, unknown: str) -> None:
    names = modules_for(unknown)
    path = ROOT / folder
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert files, f"CONTRIBUTING.md names {folder}, which contains no Python file"
    wrong = [
        each
        for file in files
        for each in imports_of(file)
        if any(not name or each.name == name or each.name.startswith(f"{name}.") for name in names)
        and each.name.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert not wrong, f"{folder} must not know {unknown}, but {'; '.join(map(str, wrong))}"


def test_every_package_is_in_exactly_one_layer() -> None:
    floors = [package for floor in FLOORS for package in floor]
    assert sorted(floors) == sorted({name for name in map(package_of, FILES) if name})


def test_no_package_imports_from_its_own_layer_or_a_higher_one() -> None:
    floor_of = {package: number for number, floor in enumerate(FLOORS) for package in floor}
    wrong = []
    for module, file in FILES.items():
        own = package_of(module)
        for each in imports_of(file):
            other = package_of(each.name)
            if other and other != own and (own is None or floor_of[other] >= floor_of[own]):
                wrong.append(f"{each}, which is not below {f'include/{own}' if own else 'include/*.py'}")
    assert not wrong, "; ".join(wrong)


def test_only_include_s3_talks_to_s3() -> None:
    libraries = {"boto3", "botocore", "s3transfer"}
    wrong = []
    for folder in ("include", "dags", "plugins"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            name = str(file.relative_to(ROOT))
            if name.startswith(("include/s3/", "include/stack/")):
                continue
            found = [str(each) for each in imports_of(file) if each.name.partition(".")[0] in libraries]
            if name not in IMPORT_BOTO3:
                wrong += found
            sent = S3_REQUEST.search(file.read_text(encoding="utf-8"))
            wrong += [f"{name} has {sent[0]!r}"] if sent else []
    assert not wrong, f"add what is missing to include/s3: {'; '.join(wrong)}"


def sub_package_of(module: str) -> str | None:
    """Return the sub-package, such as include.datasets.caching, that contains a module; None if none does."""
    parts = module.split(".")
    is_inside = len(parts) > 3 or (FILES.get(module) or Path()).name == "__init__.py"
    return ".".join(parts[:3]) if parts[0] == "include" and len(parts) > 2 and is_inside else None


def test_sub_packages_do_not_import_one_another_in_a_circle() -> None:
    """The modules directly in a package do not count: they use its sub-packages, and are used by them."""
    graph: dict[str, set[str]] = {}
    for module, file in FILES.items():
        own = sub_package_of(module)
        for each in imports_of(file):
            other = sub_package_of(each.name)
            if own and other and own != other and not each.only_types:
                graph.setdefault(own, set()).add(other)
    assert graph
    assert not circle(graph), f"imported in a circle: {' <- '.join(circle(graph))}"


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return modules that import one another in a circle, or an empty list."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_there_are_no_circular_imports() -> None:
    """Imports within functions count, because they only hide a circle; those for a type checker do not."""
    graph = {
        module: {each.name for each in imports_of(file) if not each.only_types and each.name in FILES}
        - {module}
        for module, file in FILES.items()
    }
    assert not circle(graph), f"imported in a circle: {' <- '.join(circle(graph))}"


def test_a_circular_import_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
    assert not circle({"a": {"b"}, "b": {"c"}, "d": {"a", "c"}})


def test_imports_in_functions_and_under_type_checking_are_found(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "import a.b\ndef f():\n    from c import d\nif TYPE_CHECKING:\n    import e\nelse:\n    import g\n"
    )
    found = {(each.name, each.only_types) for each in imports_of(file)}
    assert found == {("a.b", False), ("c", False), ("e", True), ("g", False)}
