"""The texts of the program that its users may see."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import condainer

SOURCES = sorted(Path(condainer.__file__).parent.rglob("*.py"))


def messages(source: Path) -> Iterator[str]:
    """Yield the texts of a module, without what only its readers see."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    seen_by_readers = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in seen_by_readers:
                yield node.value
        elif isinstance(node, ast.JoinedStr):
            parts = (p.value for p in node.values if isinstance(p, ast.Constant))
            yield "…".join(str(part) for part in parts)
