"""The tests have one fixture for one thing: none is defined twice, and a name always means the same thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Fixture:
    """A fixture, as its source describes it."""

    name: str
    place: str
    """The file and the line of its definition."""
    provides: str
    """The type of what tests get, with full names."""
    definition: tuple[str, str, str]
    """How often it is evaluated, what it needs, and what it does, without its docstring."""


class FullNames(ast.NodeTransformer):
    """Replaces the names in an annotation by full ones, so that equal texts mean equal types."""

    def __init__(self, file: str, module: ast.Module) -> None:
        self._names: dict[str, ast.expr] = {}
        for node in ast.walk(module):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self._names[alias.asname or alias.name] = ast.Name(f"{node.module}.{alias.name}")
        for node in module.body:
            if isinstance(node, ast.ClassDef):
                self._names[node.name] = ast.Name(f"{file}:{node.name}")
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self._names[node.targets[0].id] = node.value

    def visit_Name(self, node: ast.Name) -> ast.expr:
        found = self._names.get(node.id)
        return node if found is None else found if isinstance(found, ast.Name) else self.visit(found)

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        """Read a quoted annotation."""
        if not isinstance(node.value, str):
            return node
        quoted: ast.expr = self.visit(ast.parse(node.value, mode="eval").body)
        return quoted


def provided_type(returns: ast.expr | None, names: FullNames) -> str:
    """Return the type of a fixture's value: what it returns, or what it yields."""
    if isinstance(returns, ast.Subscript) and ast.unparse(returns.value) == "Iterator":
        returns = returns.slice
    return "None" if returns is None else ast.unparse(names.visit(returns))


def fixtures_of(file: Path) -> Iterator[Fixture]:
    path = str(file.relative_to(TESTS))
    module = ast.parse(file.read_text(encoding="utf-8"))
    names = FullNames(path, module)
    for node in ast.walk(module):
        if not isinstance(node, ast.FunctionDef):
            continue
        decorators = [text for each in node.decorator_list if "pytest.fixture" in (text := ast.unparse(each))]
        if decorators:
            body = node.body[ast.get_docstring(node) is not None :]
            does = "\n".join(ast.unparse(statement) for statement in body)
            definition = (decorators[0], ast.unparse(node.args), does)
            yield Fixture(node.name, f"{path}:{node.lineno}", provided_type(node.returns, names), definition)


FIXTURES = [fixture for file in sorted(TESTS.rglob("*.py")) for fixture in fixtures_of(file)]


def test_no_fixture_is_defined_twice() -> None:
    places = defaultdict(list)
    for fixture in FIXTURES:
        places[fixture.definition].append(fixture.place)
    assert [found for found in places.values() if len(found) > 1] == []


def test_fixtures_of_one_name_provide_the_same_type() -> None:
    types: dict[str, dict[str, str]] = defaultdict(dict)
    for fixture in FIXTURES:
        types[fixture.name][fixture.place] = fixture.provides
    assert {name: found for name, found in types.items() if len(set(found.values())) > 1} == {}
