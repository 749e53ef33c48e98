"""No module imports another that imports it back: neither when it is imported, nor in a function."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Circles that a function's import closes, each with the reason why it stays.
ALLOWED = (
    # `Source.open` is the name under which a Parquet source is opened: a factory on the base class.
    {"deeptune.data.sources.parquet", "deeptune.data.sources.source"},
    # A modality is read by viewers. Its other half imports torch, and is loaded when samples are opened.
    {
        "deeptune.data.modalities", "deeptune.data.modalities.image", "deeptune.data.modalities.image_samples",
        "deeptune.data.modalities.text", "deeptune.data.modalities.text_samples",
    },
    # `RegressionTask.fit` gives the task of several targets, which extends it, where labels have several.
    {"deeptune.tasks.multitarget", "deeptune.tasks.regression"},
)  # fmt: skip


def modules(root: Path) -> dict[str, Path]:
    """The modules of the packages by name."""
    found = {}
    for package in ("deeptune", "tui"):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(node: ast.AST, *, in_functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run; those for types alone never do."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from imports(ast.Module(child.orelse, []), in_functions=in_functions)
        elif isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif in_functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(child, in_functions=in_functions)


def graph(root: Path, *, in_functions: bool) -> dict[str, set[str]]:
    """The modules that each module imports by their full names."""
    known = modules(root)
    found: dict[str, set[str]] = {}
    for module, path in known.items():
        found[module] = set()
        for one in imports(ast.parse(path.read_text(encoding="utf-8")), in_functions=in_functions):
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
