"""A bundle on the Hugging Face hub."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from newsie.bundle import Bundle, copy_bundle
from newsie.errors import BundleError, InputError, MissingExtraError, NewsieError

__all__ = ["push_bundle"]

PLACES = ("license:", "library_name:", "pipeline_tag:", "## Tasks and labels", "## Limits")
"""What a complete card holds: the header that the hub reads, and what people must know."""

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def push_bundle(
    bundle: Bundle, repository: str, *, private: bool = False, endpoint: str | None = None
) -> str:
    """Upload a bundle in one commit; `Classifier.from_pretrained(repository)` then opens it.

    The card is the bundle's own, or is written anew where that one is not complete; its example
    names the repository. Weights, labels and calibration, and so the fingerprint, stay as they are.

    Args:
        bundle: a verified bundle.
        repository: "owner/name"; made if it is not there.
        private: only its owner may see the repository.
        endpoint: address of the hub; None means HF_ENDPOINT or huggingface.co.

    Returns:
        The address of the repository.

    Raises:
        InputError: the name cannot be one of a repository.
        BundleError: the hub cannot be reached or refuses; or the repository is there and public
            though a private one is asked for.
        MissingExtraError: huggingface_hub is not installed.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise InputError(f"{repository!r} is not a repository; write owner/name")
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MissingExtraError("uploading a model", "huggingface_hub", "hub") from error
    api = HfApi(endpoint=endpoint)
    try:
        address = api.create_repo(repository, private=private or None, exist_ok=True)
        if private and not api.repo_info(repository).private:
            raise BundleError(
                f"the repository {repository} is there and public, and --private is asked for; nothing "
                "was uploaded: make it private in its settings, or choose another name"
            )
        with tempfile.TemporaryDirectory() as scratch:
            card = _card(bundle, repository)
            copy = copy_bundle(bundle.path, Path(scratch) / "bundle", card=card)
            api.upload_folder(
                repo_id=repository,
                folder_path=copy.path,
                commit_message=f"{bundle.manifest.name} {bundle.fingerprint}",
            )
    except NewsieError:
        raise
    except Exception as error:  # its errors and those of the connection have no other base
        raise BundleError(_why(error, repository, api.endpoint)) from error
    return str(address)


def _card(bundle: Bundle, repository: str) -> str:
    from newsie.training.card import PLACE, model_card

    card = bundle.card
    if not card.startswith("---\n") or any(place not in card for place in PLACES):
        card = model_card(bundle.manifest)
    return card.replace(PLACE, f'"{repository}")')


def _why(error: Exception, repository: str, endpoint: str) -> str:
    """What the hub said, and what to do."""
    status = _status(error)
    if status == 401:
        advice = (
            "it does not know you: type  hf auth login  or set HF_TOKEN to a token that may write"
        )
    elif status == 403:
        advice = "your token may not write there: use one with write access, or another owner"
    elif status is None:
        advice = (
            "it cannot be reached; check the network and HF_ENDPOINT, then type the command again"
        )
    else:
        advice = f"it answers {status}; type the command again, later if it is busy"
    return f"{repository} was not uploaded to {endpoint}: {advice} ({_first_line(error)})"


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error, or behind what it was raised from."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
