"""Code shared by the commands that train."""

from __future__ import annotations

from importlib.util import find_spec

from newsie.errors import MissingExtraError

__all__ = ["quiet_training_libraries"]


def quiet_training_libraries(what: str, *packages: str) -> None:
    """Import the packages for training, and turn off their own messages and progress bars.

    Args:
        what: the task at hand, as a noun phrase ("training").
        packages: further required packages, of the extra `lab`.

    Raises:
        MissingExtraError: a package is not installed.
    """
    try:
        import datasets
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        extra = "lab" if packages else "train"  # `lab` includes `train`
        raise MissingExtraError(what, error.name or "torch", extra) from error
    if missing := [package for package in packages if find_spec(package) is None]:
        raise MissingExtraError(what, missing[0], "lab")
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    datasets.disable_progress_bars()
