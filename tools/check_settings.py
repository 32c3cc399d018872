"""Settings are read as attributes: finds, by the syntax tree, those that are read by a string key outside of settings/.

A key counts as a setting's where the schema has one of that name. It may be read of a document (`core.files.Document`
or `Record`: what a JSON file says), of a mapping whose annotation says what its values are, and of a dictionary that
the same function made. Nothing outside of settings/ may be annotated as a mapping of text to Any.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path

from sertk.settings.schema import Segments, Settings, fields_of

ROOT = Path(__file__).resolve().parents[1]
READERS = {"read_json", "read_jsonl", "loads"}  # what gives a document
LIBRARY = {"param_groups"}  # of torch's optimizers
OPEN = re.compile(r"\b(dict|Mapping|MutableMapping|Dict)\[str, Any\]")
CLOSED = re.compile(r"\b(Document|Record|State|dict|Mapping|Shares)\b")


def setting_names(group: type = Settings) -> set[str]:
    """The name of every setting, at any depth."""
    found = set(fields_of(group))
    for one in fields_of(group).values():
        if is_dataclass(one.default) and not isinstance(one.default, type):
            found |= setting_names(type(one.default))
    return found | set(fields_of(Segments)) if group is Settings else found


def faults(path: Path, source: str, names: set[str]) -> Iterator[str]:
    """Each fault of a file, as FILE:LINE: what."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        where = f"{path}:{getattr(node, 'lineno', 0)}"
        for annotation in _annotations(node):
            if OPEN.search(annotation):
                yield f"{where}: {annotation}: a document is a Document or a Record; settings have types"
        for key in _read_at_once(node):
            if key in names:
                yield f"{where}: {ast.unparse(node)[:60]}: the setting {key!r} is read by a string key"
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "settings":
            yield f"{where}: {ast.unparse(node)}: the settings of a component are its plugin's"
        key, mapping = _read(node)
        if key in names and mapping is not None and not _known(mapping, node, parents):
            yield f"{where}: {ast.unparse(node)}: the setting {key!r} is read by a string key"


def _annotations(node: ast.AST) -> list[str]:
    found = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    return [ast.unparse(one) for one in found if isinstance(one, ast.expr)]


def _closed(annotation: ast.expr) -> bool:
    """Whether an annotation says what the values of a mapping are; `object` says that nobody here knows."""
    text = ast.unparse(annotation)
    return bool(CLOSED.search(text)) and ", object]" not in text


def _read(node: ast.AST) -> tuple[str, ast.expr | None]:
    """The text by which a mapping is read, and the mapping."""
    key: ast.expr | None = None
    mapping: ast.expr | None = None
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        key, mapping = node.slice, node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        if node.func.attr in ("get", "pop", "setdefault"):
            key, mapping = node.args[0], node.func.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
        return (node.args[1].value, node.args[0]) if isinstance(node.args[1], ast.Constant) else ("", None)
    return (key.value, mapping) if isinstance(key, ast.Constant) and isinstance(key.value, str) else ("", None)


def _read_at_once(node: ast.AST) -> list[str]:
    """The keys of a `match` on a mapping, and of `itemgetter`."""
    found: list[ast.expr] = list(node.keys) if isinstance(node, ast.MatchMapping) else []
    if isinstance(node, ast.Call) and "itemgetter" in ast.unparse(node.func):
        found = list(node.args)
    return [one.value for one in found if isinstance(one, ast.Constant) and isinstance(one.value, str)]


def _known(value: ast.expr, node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether what is read is a document, or typed, or made on the spot."""
    if isinstance(value, ast.Subscript):
        return _known(value.value, node, parents)
    if isinstance(value, ast.Call):
        called = value.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        return name in READERS or (isinstance(called, ast.Attribute) and _known(called.value, node, parents))
    if isinstance(value, ast.Attribute):
        return value.attr in LIBRARY | ATTRIBUTES
    if isinstance(value, ast.Dict | ast.DictComp):
        return True
    return isinstance(value, ast.Name) and any(_bound(value.id, one, parents) for one in _scopes(node, parents))


def _scopes(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    """The functions and comprehensions around a node, and the module."""
    while node in parents:
        node = parents[node]
        if isinstance(node, ast.FunctionDef | ast.Lambda | ast.Module | ast.ListComp | ast.GeneratorExp | ast.DictComp):
            yield node


def _bound(name: str, scope: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether a scope binds a name to something that may be read by a string key."""
    for one in ast.walk(scope):
        if isinstance(one, ast.arg) and one.arg == name and one.annotation:
            return _closed(one.annotation)
        if isinstance(one, ast.AnnAssign) and getattr(one.target, "id", "") == name:
            return _closed(one.annotation)
        named = isinstance(one, ast.Assign) and any(name in _names(target) for target in one.targets)
        if named and isinstance(one, ast.Assign) and _known(one.value, one, parents):
            return True
        if isinstance(one, ast.For | ast.comprehension) and name in _names(one.target):
            return _known(_items(one.iter), one, parents)
    return False


def _items(iterable: ast.expr) -> ast.expr:
    """What a loop goes through: of `sorted(x)` and the like, x."""
    plain = isinstance(iterable, ast.Call) and isinstance(iterable.func, ast.Name) and iterable.args
    if plain and getattr(iterable.func, "id", "") in ("sorted", "list", "enumerate", "reversed"):
        return _items(iterable.args[0])
    return iterable


def _names(target: ast.expr) -> set[str]:
    return {one.id for one in ast.walk(target) if isinstance(one, ast.Name)}


def attributes() -> set[str]:
    """The attributes of sertk's classes that are documents, or mappings of a stated type."""
    found = set()
    for path in (ROOT / "sertk").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.AnnAssign) and _closed(node.annotation):
                found |= {node.target.attr} if isinstance(node.target, ast.Attribute) else _names(node.target)
    return found - {"settings"}  # those of a component are its plugin's


ATTRIBUTES = attributes()


def main() -> int:
    """Looks at every file but those of settings/; gives the exit code."""
    names, found = setting_names(), list[str]()
    for path in sorted((ROOT / "sertk").rglob("*.py")):
        inside = path.relative_to(ROOT)
        if inside.parts[:2] == ("sertk", "settings") or inside == Path("sertk/core/files.py"):
            continue
        found += faults(inside, path.read_text(encoding="utf-8"), names)
    print("\n".join(found) or f"{len(names)} settings, none read by a string key outside of sertk/settings")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
