"""The CEL library without its command line: `import cel` takes longer than all other imports of a command together."""

from __future__ import annotations

from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Any


def _extension() -> Any:
    """Load the compiled module `cel.cel` on its own."""
    package = find_spec("cel")
    extension = PathFinder.find_spec("cel.cel", package.submodule_search_locations) if package else None
    if extension is None or extension.loader is None:
        raise ImportError("the package common-expression-language is not installed")
    module = module_from_spec(extension)
    extension.loader.exec_module(module)
    return module


cel: Any = _extension()
