"""`newsie push`: upload of a bundle to the Hugging Face hub."""

from __future__ import annotations

import importlib.util
from typing import Annotated

import typer

from newsie.cli.options import Model
from newsie.errors import MissingExtraError

__all__ = ["push"]


def push(
    repository: Annotated[
        str, typer.Argument(metavar="REPO", help="Where to: owner/name; made if it is not there.")
    ],
    model: Model = None,
    private: Annotated[
        bool, typer.Option("--private", help="Only you may see the repository.")
    ] = False,
) -> None:
    """Upload a model to the Hugging Face hub, with its card.

    Needs a token that may write: hf auth login, or HF_TOKEN.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtraError("uploading a model", "huggingface_hub", "hub")
    from huggingface_hub.utils.tqdm import disable_progress_bars

    from newsie.cli.terminal import note
    from newsie.inference.classifier import Classifier
    from newsie.training.publishing import push_bundle

    disable_progress_bars()
    bundle = Classifier.from_pretrained(model, threads=1).bundle
    print(push_bundle(bundle, repository, private=private))
    note(f'to use it: newsie classify --model {repository} "..."')
