# SPDX-License-Identifier: Apache-2.0
"""Functions of a user's own package, named by import path: `my_package.module:name`."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

from preprocessing.foundation.commands import UsageError, suggest


def is_import_path(name: str) -> bool:
    """Tells whether a name is meant as an import path: it holds a colon."""
    return ":" in name


@functools.cache
def load(name: str) -> Callable[..., Any]:
    """Returns the function that `my_package.module:function` names.

    The import runs the module's code, once per process. The package has to be
    importable wherever the job works: installed, or on PYTHONPATH.

    Raises:
        UsageError: the name has another form, its module cannot be imported, or holds
            no such function.
    """
    module_name, _, function_name = name.partition(":")
    parts = [*module_name.split("."), function_name]
    if not all(part.isidentifier() for part in parts):
        raise UsageError(
            f"wanted my_package.module:function, found '{name}'. Name a module by its "
            "import path, then a function in it after one colon"
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the module's own code raises
        raise UsageError(
            f"wanted to import {module_name} for {name}, found "
            f"{type(error).__name__}: {error}. Install the package, or add its "
            "directory to PYTHONPATH"
        ) from error
    found = getattr(module, function_name, None)
    if not callable(found):
        known = [key for key, value in vars(module).items() if callable(value)]
        what = "no such name" if found is None else f"a {type(found).__name__}"
        raise UsageError(
            f"wanted a function {function_name} in {module_name}, found {what}."
            f"{suggest(function_name, known)} Name one of the module's functions"
        )
    function: Callable[..., Any] = found
    return function
