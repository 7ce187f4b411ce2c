"""The code of a source text without comments, layout and docstrings (standard library only)."""

from __future__ import annotations

import ast


def syntax(source: str | bytes) -> str:
    """Write out a source text's syntax tree, equal under every supported Python version.

    Comments, layout, positions, docstrings and fields that are absent do not count.
    """
    return _text(ast.parse(source))


def _text(node: object) -> str:
    if isinstance(node, list):
        return "[" + ",".join(map(_text, node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    parts = [f"{name}={_text(value)}" for name, value in sorted(fields.items())
             if value is not None and value != []]
    return f"{type(node).__name__}({','.join(parts)})"
