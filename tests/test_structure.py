"""The layout holds: no import circle, few modules in a folder, short modules, a purpose said by each folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ml_core", "webapp", "worker")
MOST_MODULES = 15
MOST_LINES = 400
GENERATED = {"node_modules", "static", "migrations", "__pycache__"}


def _modules(root: Path) -> dict[str, Path]:
    """Dotted names of all Python modules below `root`'s top-level packages, with their files."""
    files = (file for file in root.rglob("*.py") if not GENERATED & set(file.parts))
    return {".".join(f.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


def _imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names that a module imports, inside functions too, but for types alone; `from a import b` gives `a.b`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from _imports(ast.Module(node.orelse, []))
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from _imports(node)


def _graph(modules: dict[str, Path]) -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for name, file in modules.items():
        imported = set()
        for target in _imports(ast.parse(file.read_text())):
            while target and target not in modules:
                target = target.rpartition(".")[0]
            imported.add(target)
        graph[name] = imported - {"", name}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            component, stack[at:] = sorted(stack[at:]), []
            if len(component) > 1:
                found.append(component)

    for node in graph:
        if node not in index:
            visit(node)
    return found


def _ours() -> dict[str, Path]:
    return {name: file for name, file in _modules(ROOT).items() if name.split(".")[0] in PACKAGES}


def test_no_module_imports_itself_by_a_detour() -> None:
    assert circles(_graph(_ours())) == []


def test_a_circle_inside_functions_is_found(tmp_path: Path) -> None:
    package = tmp_path / "house"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cellar.py").write_text("from house import roof\n")
    (package / "roof.py").write_text("def leak():\n    from house.stairs import down\n    return down\n")
    (package / "stairs.py").write_text("import house.cellar\n\ndown = house.cellar\n")
    (package / "garden.py").write_text(
        "from typing import TYPE_CHECKING\nfrom house import roof\nif TYPE_CHECKING:\n    import house.garden\n"
    )
    assert circles(_graph(_modules(tmp_path))) == [["house.cellar", "house.roof", "house.stairs"]]


def _folders() -> dict[Path, list[Path]]:
    """Folders of the code, the front end's too, each with its modules."""
    found: dict[Path, list[Path]] = {}
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*"):
            inside = not GENERATED & set(file.relative_to(ROOT).parts)
            if inside and file.suffix in (".py", ".ts", ".css") and file.name != "__init__.py":
                found.setdefault(file.parent, []).append(file)
    return found


def test_a_folder_holds_few_modules() -> None:
    crowded = {str(folder.relative_to(ROOT)): len(files) for folder, files in _folders().items()}
    assert {name: count for name, count in crowded.items() if count > MOST_MODULES} == {}


def test_no_module_is_long() -> None:
    files = [file for files in _folders().values() for file in files] + list(
        (ROOT / "webapp/templates").rglob("*.html")
    )
    lines = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


@pytest.mark.parametrize("package", [*PACKAGES, "tests"])
def test_each_package_says_in_one_line_what_lives_there(package: str) -> None:
    mute = []
    for init in (ROOT / package).rglob("__init__.py"):
        if {"migrations", "management"} & set(init.parts):
            continue
        text = ast.get_docstring(ast.parse(init.read_text())) or ""
        if not text.strip() or "\n" in text.strip().split("\n\n")[0]:
            mute.append(str(init.relative_to(ROOT)))
    assert mute == []
