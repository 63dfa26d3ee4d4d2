"""What ``import gradfit`` gives, costs, and leaves alone."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gradfit

ROOT = Path(__file__).parents[2]
HEAVY = ["matplotlib", "scipy", "polars", "pandas", "sklearn", "numba", "narwhals", "rich", "typer"]

PROBE = """
import json, logging, os, sys, threading, time, warnings
import torch
before = (dict(os.environ), torch.get_default_dtype(), torch.get_num_threads(),
          list(warnings.filters), list(logging.root.handlers), threading.active_count())
start = time.perf_counter()
import gradfit
seconds = time.perf_counter() - start
after_root = set(sys.modules)
for name in {names!r}:
    getattr(gradfit, name)
after = (dict(os.environ), torch.get_default_dtype(), torch.get_num_threads(),
         list(warnings.filters), list(logging.root.handlers), threading.active_count())
heavy = lambda modules: [name for name in {heavy!r} if name in modules]
print(json.dumps({{"seconds": seconds, "unchanged": before == after,
                   "root": heavy(after_root), "names": heavy(sys.modules)}}))
"""


@pytest.fixture(scope="module")
def fresh():
    """What a fresh interpreter sees when it imports gradfit and touches every public name."""
    code = PROBE.format(names=gradfit.__all__, heavy=HEAVY)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


@pytest.mark.slow
def test_import_takes_less_than_a_fifth_of_a_second_beyond_torch(fresh):
    assert fresh["seconds"] < 0.2


def test_import_loads_no_heavy_package(fresh):
    assert fresh["root"] == []


def test_touching_every_public_name_loads_no_heavy_package(fresh):
    assert fresh["names"] == []


def test_import_changes_no_global_state(fresh):
    assert fresh["unchanged"]


def test_root_names_are_those_of_the_readme():
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Names\n")[1]
    documented = re.findall(r"^\| `gf\.(\w+)", section.split("\n## ")[0], flags=re.MULTILINE)
    assert sorted(documented) == sorted(set(gradfit.__all__) - {"__version__"})


def test_type_checkers_see_what_the_interpreter_sees():
    tree = ast.parse((ROOT / "src/gradfit/__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.asname: f"{node.module}.{alias.name}"
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(typed) == set(gradfit.__all__) - {"__version__"}
    for name, home in typed.items():
        value = getattr(gradfit, name)
        if isinstance(value, type(gradfit)):
            assert value.__name__ == home
        else:
            module, attribute = home.rsplit(".", 1)
            assert value is getattr(sys.modules[module], attribute)


def test_a_name_stays_what_it_is_after_its_module_was_imported_directly():
    code = (
        "import importlib, gradfit\n"
        "for module in {m for m, _ in gradfit._HOMES.values()}:\n"
        "    importlib.import_module('gradfit.' + module)\n"
        "for name, (module, attribute) in gradfit._HOMES.items():\n"
        "    home = importlib.import_module('gradfit.' + module)\n"
        "    expected = home if attribute is None else getattr(home, attribute)\n"
        "    assert getattr(gradfit, name) is expected, name\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'gradfit' has no attribute 'fitt'"):
        _ = gradfit.fitt
