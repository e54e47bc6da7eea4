from __future__ import annotations

import sys

import pytest

from newsie.cli.training import quiet_training_libraries
from newsie.errors import MissingExtraError


@pytest.mark.parametrize(("packages", "extra"), [((), "train"), (("optuna", "tomli_w"), "lab")])
def test_the_extra_that_brings_everything_is_named_at_once(
    packages: tuple[str, ...], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=rf"\[{extra}\]"):
        quiet_training_libraries("a search", *packages)
