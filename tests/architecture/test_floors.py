"""A file imports only from floors below its own, and no file is without a floor."""

import ast
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "gradfit").rglob("*.py"))

FILE_LINES = 500
FUNCTION_LINES = 60
# A longer function is entered here with the reason.
LONG_FUNCTIONS: dict[str, str] = {}


def test_imports_go_down_the_floors(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    code = lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None)
    assert code == 0, capsys.readouterr().out


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_files_and_functions_stay_short(path):
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= FILE_LINES
    long = {
        f"{path.stem}.{node.name}": lines
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := body_lines(node)) > FUNCTION_LINES
        and f"{path.stem}.{node.name}" not in LONG_FUNCTIONS
    }
    assert not long


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function without signature, docstring and the functions inside it."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    if not body:
        return 0
    inner = [n for n in body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    whole = (node.end_lineno or 0) - body[0].lineno + 1
    return whole - sum((n.end_lineno or 0) - n.lineno + 1 for n in inner)


def test_every_module_has_a_meaning():
    vague = {"utils", "util", "common", "helpers", "helper", "misc", "tools"}
    assert not vague & {path.stem.strip("_") for path in SOURCES}


def test_every_room_is_on_the_plan():
    plan = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rooms = {path.relative_to(ROOT / "src" / "gradfit").parts[0] for path in SOURCES}
    missing = {
        room
        for room in rooms - {"__init__.py", "__main__.py"}
        if f"`{room.removesuffix('.py')}`" not in plan and f"`{room}/`" not in plan
    }
    assert not missing


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_the_library_never_prints_nor_runs_text(path):
    # A NumPy program is written by the graph itself and run to check it; no text of a user is.
    allowed: dict[str, set[str]] = {"eval": set(), "exec": {"program"}, "print": {"cli", "output"}}
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not {name for name, homes in allowed.items() if name in calls and path.stem not in homes}


def test_nothing_is_left_to_do_and_no_path_of_one_machine_is_written_down():
    words = ("TO" + "DO", "FIX" + "ME", "/wo" + "rk/", "/op" + "t/", "/ro" + "ot/")
    folders = ("src", "tests", "examples", "benchmarks", ".ci")
    texts = [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and path.suffix in {".py", ".md", ".toml", ".html", ".js", ".css", ""}
        and not any(part[0] == "." for part in path.relative_to(ROOT / folder).parent.parts)
    ] + [*ROOT.glob("*.md"), *ROOT.glob("*.toml")]
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in texts
        for word in words
        if word in path.read_text(encoding="utf-8", errors="ignore")
    ]
    assert not found
