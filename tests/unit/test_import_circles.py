"""Imports go one way: no module leads back to itself, and no room reads one below it in `docs/architecture.md`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Circles that a function's import closes, each with the reason why it stays.
ALLOWED = (
    # `RegressionTask.fit_labels` gives the task of several targets, which extends it, where labels have several.
    {"deeptune.tasks.multitarget", "deeptune.tasks.regression"},
)

# Those that a name in an annotation closes.
ALLOWED_FOR_TYPES = (
    # A run gives its model, which knows its run.
    {"deeptune.api.model", "deeptune.api.run"},
    # A source has the files that its column names, which read their names from it.
    {"deeptune.data.sources.named_files", "deeptune.data.sources.source"},
    {"deeptune.tasks.multitarget", "deeptune.tasks.regression"},
)

# Rooms that read one below them.
ALLOWED_BELOW = {
    # A path that is not a Parquet file is imported where it is opened, in a function.
    ("data/sources/", "importing/"),
}


def modules(root: Path) -> dict[str, Path]:
    """The modules of the packages by name."""
    found = {}
    for package in ("deeptune", "tui"):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(node: ast.AST, *, in_functions: bool, for_types: bool = False) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run; those for types alone never do, and count only where asked for."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING" and not for_types:
            yield from imports(ast.Module(child.orelse, []), in_functions=in_functions)
        elif isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif in_functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(child, in_functions=in_functions, for_types=for_types)


def graph(root: Path, *, in_functions: bool, for_types: bool = False) -> dict[str, set[str]]:
    """The modules that each module imports by their full names."""
    known = modules(root)
    found: dict[str, set[str]] = {}
    for module, path in known.items():
        found[module] = set()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for one in imports(tree, in_functions=in_functions, for_types=for_types):
            if isinstance(one, ast.Import):
                names = [alias.name for alias in one.names]
            else:
                assert not one.level, f"{path}: relative import"
                names = [
                    full if (full := f"{one.module}.{alias.name}") in known else str(one.module) for alias in one.names
                ]
            found[module] |= {name for name in names if name in known and name != module}
    return found


def circles(edges: dict[str, set[str]]) -> list[set[str]]:
    """The sets of modules that all lead to one another."""
    reached: dict[str, set[str]] = {}
    for start in edges:
        seen, waiting = set(), [start]
        while waiting:
            for other in edges[waiting.pop()] - seen:
                seen.add(other)
                waiting.append(other)
        reached[start] = seen
    together = {frozenset(other for other in reached[one] if one in reached[other]) for one in edges}
    return [set(one) for one in sorted(together, key=sorted) if one]


def test_no_circle_when_modules_are_imported():
    assert circles(graph(ROOT, in_functions=False)) == []


def test_no_circle_is_hidden_in_functions_but_those_with_a_reason():
    found = circles(graph(ROOT, in_functions=True))
    assert [one for one in found if one not in ALLOWED] == []
    assert [one for one in ALLOWED if one not in found] == []


def test_no_circle_of_types_but_those_with_a_reason():
    edges = graph(ROOT, in_functions=True, for_types=True)
    # The package itself names its whole front door, and screens and widgets of Textual name their application.
    edges = {name: others - {"deeptune"} for name, others in edges.items() if name != "deeptune"}
    found = [one for one in circles(edges) if not any(name.startswith("tui.") for name in one)]
    assert [one for one in found if one not in ALLOWED_FOR_TYPES] == []
    assert [one for one in ALLOWED_FOR_TYPES if one not in found] == []


def room_of(module: str, places: dict[str, int]) -> str | None:
    """The room in the table of the page that a module is in."""
    parts = module.split(".")[1:]
    folders = ("/".join(parts[:size]) + "/" for size in range(len(parts), 0, -1))
    return next((name for name in ("/".join(parts) + ".py", *folders) if name in places), None)


def below(edges: dict[str, set[str]], places: dict[str, int]) -> set[tuple[str, str]]:
    """The pairs of rooms of which the first imports the second, though that is further down."""
    pairs = {(room_of(one, places), room_of(other, places)) for one, others in edges.items() for other in others}
    return {(one, other) for one, other in pairs if one and other and places[one] < places[other]}


def test_a_room_imports_only_rooms_above_it():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \| .* \|$", page[page.index("| room |") : page.index("## The path")], re.MULTILINE)
    places = {name: place for place, row in enumerate(rows) for name in re.findall(r"`([a-z_/]+(?:\.py)?)`", row)}
    edges = graph(ROOT, in_functions=True, for_types=True)
    lost = {name for name in edges if name.startswith("deeptune.") and room_of(name, places) is None}
    assert lost == {"deeptune.__main__"}
    assert below(edges, places) == ALLOWED_BELOW
    assert below({"deeptune.spec.toml": {"deeptune.engine.run"}}, places) == {("spec/", "engine/")}


@pytest.mark.parametrize("in_functions", [False, True])
def test_a_circle_is_found(tmp_path, in_functions):
    (tmp_path / "deeptune").mkdir()
    (tmp_path / "deeptune/__init__.py").write_text("")
    (tmp_path / "deeptune/one.py").write_text("from deeptune import two\n")
    (tmp_path / "deeptune/two.py").write_text("def late():\n    from deeptune.three import x\n")
    (tmp_path / "deeptune/three.py").write_text("import deeptune.one\n")
    found = circles(graph(tmp_path, in_functions=in_functions))
    assert found == ([{"deeptune.one", "deeptune.two", "deeptune.three"}] if in_functions else [])


def test_imports_for_types_alone_are_no_circle(tmp_path):
    (tmp_path / "deeptune").mkdir()
    (tmp_path / "deeptune/one.py").write_text("from deeptune import two\n")
    (tmp_path / "deeptune/two.py").write_text("if TYPE_CHECKING:\n    from deeptune import one\n")
    assert circles(graph(tmp_path, in_functions=True)) == []


def test_the_page_names_files_that_exist():
    """A path of several parts is below a package; a name alone is beside the path before it in its row, or anywhere."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    files = [path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("deeptune/**/*.*"), *ROOT.glob("tui/**/*.py"))]
    files += [path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/unit/*.py")]
    named = set(re.findall(r"`([a-z0-9_/]+\.(?:py|j2))`", page))
    assert len(named) > 60
    assert [name for name in sorted(named) if not any(f"/{file}".endswith(f"/{name}") for file in files)] == []
