"""Upload of a bundle to the Hugging Face hub."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from newsie.bundles.bundle import Bundle, copy_bundle
from newsie.errors import BundleError, InputError, MissingExtraError, NewsieError

__all__ = ["push_bundle"]

PLACES = ("license:", "library_name:", "pipeline_tag:", "## Tasks and labels", "## Limits")
"""The parts of a complete card: the hub's metadata header, and the sections that users need."""

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def push_bundle(
    bundle: Bundle, repository: str, *, private: bool = False, endpoint: str | None = None
) -> str:
    """Upload a bundle in one commit. `Classifier.from_pretrained(repository)` then opens it.

    The card is the bundle's own, or is generated if that one is incomplete. Its example names the
    repository. Weights, labels, calibration and fingerprint do not change.

    Args:
        bundle: a verified bundle.
        repository: "owner/name"; created if it does not exist.
        private: make the repository visible to its owner only.
        endpoint: the address of the hub; None means HF_ENDPOINT or huggingface.co.

    Returns:
        The address of the repository.

    Raises:
        InputError: the repository's name is not valid.
        BundleError: the hub cannot be reached or refuses the upload, or the repository exists and is public
            although `private` is set.
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
    except Exception as error:  # the hub's and the connection's errors share no other base class
        raise BundleError(_why(error, repository, api.endpoint)) from error
    return str(address)


def _card(bundle: Bundle, repository: str) -> str:
    from newsie.training.card import PLACE, model_card

    card = bundle.card
    if not card.startswith("---\n") or any(place not in card for place in PLACES):
        card = model_card(bundle.manifest)
    return card.replace(PLACE, f'"{repository}")')


def _why(error: Exception, repository: str, endpoint: str) -> str:
    """Return a message with the hub's reply and advice."""
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
    """Return the HTTP status of an error or of one of its causes, or None."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
