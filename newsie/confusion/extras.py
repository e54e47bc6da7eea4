"""The packages of the extra `analysis`: imported when they are needed, and told when they are missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from newsie.errors import MissingExtraError

__all__ = ["check_extras", "extra"]

_PACKAGES = ("scipy", "cleanlab", "matplotlib")


def extra(module: str) -> Any:
    """Import a module of an optional package.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError("an analysis of confusion", package, "analysis") from error


def check_extras() -> None:
    """Raise MissingExtraError now, rather than after minutes of classifying."""
    for package in _PACKAGES:
        extra(package)
