"""A tensor that is made says where and of what kind: torch's defaults belong to the user."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "gradfit"
MAKERS = {
    *(
        "arange",
        "as_tensor",
        "asarray",
        "empty",
        "eye",
        "full",
        "linspace",
        "logspace",
        "ones",
        "rand",
        "randint",
        "randn",
    ),
    *("randperm", "scalar_tensor", "tensor", "tril_indices", "triu_indices", "zeros"),
}
"""Functions of torch whose tensor lies on the default device unless another is named."""
TYPED = MAKERS - {"randint", "randperm", "tril_indices", "triu_indices"}
"""Those whose numbers are of the default kind unless another is named."""
ELSEWHERE = {
    ROOT / "graph" / "surroundings.py": "asks what the default is",
}


def calls(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "torch"
            and node.func.attr in MAKERS
        ):
            yield node


FILES = [p for p in sorted(ROOT.rglob("*.py")) if p not in ELSEWHERE and any(calls(p))]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_new_tensors_name_their_device_and_kind(path):
    missing = []
    for node in calls(path):
        named = {k.arg for k in node.keywords}
        wanted = {"device", "dtype"} if node.func.attr in TYPED else {"device"}
        if node.func.attr == "tensor" and {"device"} <= named and is_whole(node.args[0]):
            continue
        if not wanted <= named and None not in named:
            missing.append(f"{path.name}:{node.lineno}: {ast.unparse(node)[:70]}")
    assert not missing


def is_whole(node):
    """Whether numbers are written out that are whole, whose kind is always the same."""
    items = node.elts if isinstance(node, ast.List | ast.Tuple) else [node]
    return all(isinstance(i, ast.Constant) and isinstance(i.value, int) for i in items)
