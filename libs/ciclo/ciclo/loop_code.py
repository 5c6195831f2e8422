"""The Python files of a loop, checked without running them: they may need what is not here."""

import ast
import posixpath
from collections.abc import Iterable, Iterator, Mapping

FEATURES_FILE = "features.py"
"""Holds a loop's feature definitions."""


def code_problems(files: Mapping[str, bytes], recipe: str = "") -> list[str]:
    """Returns what keeps features.py and the recipe from being read at all; one line each.

    What a file does once it runs, only the service that runs it can say.

    Args:
        files: The files of a loop's folder by their relative path.
        recipe: As in loop.yaml, `recipe.py:Class`; empty where it is not known.

    Example:
        >>> code_problems({"features.py": b"x = = 1", "recipe.py": b""}, "recipe.py:Churn")[0]
        'features.py, line 1: invalid syntax'
    """
    _, problem = _parsed(files, FEATURES_FILE, "which declares the features")
    problems = [problem] if problem else []
    if recipe:
        path, _, name = recipe.partition(":")
        file = posixpath.normpath(path)
        tree, problem = _parsed(files, file, "which loop.yaml names as recipe")
        if problem:
            problems.append(problem)
        elif tree and name not in (found := set(_names(tree.body))) and "*" not in found:
            classes = sorted(node.name for node in tree.body if isinstance(node, ast.ClassDef))
            problems.append(
                f"{file} holds no {name}, which loop.yaml names as recipe; "
                f"its classes: {', '.join(classes) or 'none'}"
            )
    return problems


def _parsed(
    files: Mapping[str, bytes], file: str, purpose: str
) -> tuple[ast.Module | None, str | None]:
    if file not in files:
        return None, f"{file} is missing, {purpose}"
    try:
        return ast.parse(files[file], file), None
    except SyntaxError as error:
        return None, f"{file}, line {error.lineno}: {error.msg}"
    except ValueError as error:  # a null byte
        return None, f"{file}: {error}"


def _names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yields what statements bind in their module, also those within `if`, `try` and `with`."""
    for node in nodes:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from (alias.asname or alias.name.partition(".")[0] for alias in aliases)
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case _:
                yield from _names(ast.iter_child_nodes(node))
