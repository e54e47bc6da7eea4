"""Imports of the packages of the `analysis` extra, made when needed, with an error if one is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from newsie.errors import MissingExtraError

__all__ = ["check_extras", "extra"]

_PACKAGES = ("scipy", "cleanlab", "matplotlib")


def extra(module: str) -> Any:
    """Import a module of an optional package.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError("an analysis of confusion", package, "analysis") from error


def check_extras() -> None:
    """Raise MissingExtraError at once if a package is missing, rather than after minutes of classifying."""
    for package in _PACKAGES:
        extra(package)
