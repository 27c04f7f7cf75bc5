"""What the libraries within this file need and Python 3.9 lacks: `bytes | str` as a value, and names of `typing`.

Both only ever say of which type something is. The libraries' older releases would run as they are, without the
security fixes since.
"""

from __future__ import annotations

import ast
import importlib.machinery
import sys
import typing
import zipimport
from collections.abc import Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from types import CodeType, ModuleType

_NAMES = ("TypeAlias", "TypeGuard")


def allow_in(*packages: str) -> None:
    """From now on modules of these packages are imported with `|` between types."""
    for name in _NAMES:
        if not hasattr(typing, name):
            setattr(typing, name, typing.Any)
    sys.meta_path.insert(0, _Finder(packages))


def _either(left: typing.Any, right: typing.Any) -> typing.Any:
    try:
        return left | right
    except TypeError:
        return typing.Union[left, right]


class _Either(ast.NodeTransformer):
    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.BitOr):
            return node
        call = ast.Call(ast.Name("__either__", ast.Load()), [node.left, node.right], [])
        return ast.copy_location(call, node)


class _Loader(InspectLoader):
    def __init__(self, inner: zipimport.zipimporter) -> None:
        self._inner = inner

    def is_package(self, fullname: str) -> bool:
        return self._inner.is_package(fullname)

    def get_source(self, fullname: str) -> str | None:
        return self._inner.get_source(fullname)

    def get_code(self, fullname: str) -> CodeType | None:
        source = self.get_source(fullname)
        if source is None:
            return None
        tree = ast.fix_missing_locations(_Either().visit(ast.parse(source)))
        return compile(tree, fullname, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__either__"] = _either
        super().exec_module(module)


class _Finder(MetaPathFinder):
    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = packages

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in self._packages:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, zipimport.zipimporter):
            spec.loader = _Loader(spec.loader)
        return spec
