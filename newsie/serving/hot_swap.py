"""Hot swap: replaces the served model without interrupting requests."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from newsie.bundles.bundle import read_bundle
from newsie.errors import BundleError, NewsieError
from newsie.inference.classifier import Classifier
from newsie.serving.http.workers import READY, SHARED_VARIABLE
from newsie.serving.http_errors import RefusedError
from newsie.serving.loading import within
from newsie.serving.logs import place_of, sendable, write_line
from newsie.serving.model import ServedModel, self_test
from newsie.serving.rehearsal import rehearse
from newsie.serving.service import Service
from newsie.serving.settings import Settings
from newsie.serving.sharing import Shared

__all__ = ["Swap", "Swapper"]

MAX_REASON_CHARACTERS = 500
POLL_SECONDS = 0.05

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Swap:
    """The outcome of a swap.

    Attributes:
        model: fingerprint of the model.
        name: name of the model.
        changed: whether the model differs from the one before.
        workers: number of processes of the server.
        swapped: number of those that serve this model now.
    """

    model: str
    name: str
    changed: bool
    workers: int
    swapped: int


class Swapper:
    """Loads, verifies, warms and tests a new model, swaps it in, then drains the old one.

    If anything fails, the old model stays.

    Args:
        service: the service whose model is replaced.
        settings: settings with the places of models.
    """

    def __init__(self, service: Service, settings: Settings) -> None:
        self._service, self._settings = service, settings
        self._busy = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        directory = os.environ.get(SHARED_VARIABLE)
        self._shared = Shared(Path(directory)) if directory else None
        self._chosen = settings.model

    async def reload(self) -> bool:
        """Load the model that was chosen last, or that of the settings. Return False if it is unchanged.

        Raises:
            NewsieError: the model cannot be used.
        """
        choice = self._shared.read_choice() if self._shared else None
        if choice is not None:
            self._chosen = choice.source
        try:
            async with self._busy:
                return await self._load(self._chosen)
        except Exception:
            if self._shared and choice is not None:
                self._shared.note_failure(choice)
            raise

    async def choose(self, name: str) -> Swap:
        """Load the bundle with this name from `models_dir` in all workers.

        Raises:
            RefusedError: there is no such bundle, it cannot be used, or another one is being loaded.
        """
        path = self._find(name)
        if self._busy.locked():
            raise _busy()
        with self._only_chooser():
            async with self._busy:
                changed = await self._try(name, path)
            self._chosen = str(path)
            model = self._service.current
            assert model is not None
            workers, swapped = await self._tell_workers(model.fingerprint)
            return Swap(model.fingerprint, model.name, changed, workers, swapped)

    async def close(self) -> None:
        """Wait until swapped-out models are closed, then close the current one."""
        if self._closing:
            await asyncio.wait(self._closing)
        if self._service.current is not None:
            await self._service.current.close()

    def _find(self, name: str) -> Path:
        directory = self._settings.models_dir
        if directory is None:
            raise RefusedError(403, "models_dir", "this server has no directory of models")
        # Unlike Path.resolve, this accepts circular links.
        directory = Path(os.path.realpath(directory))
        path = directory / name
        # A link must not lead out of the directory either.
        if not _NAME.fullmatch(name) or not Path(os.path.realpath(path)).is_relative_to(directory):
            raise RefusedError(
                422, "name", "a model is named by letters, digits, '.', '_' and '-', without a path"
            )
        if not os.path.isdir(path):  # unlike Path.is_dir, never raises
            raise RefusedError(404, "no_model", f"there is no model {name!r}")
        return path

    async def _try(self, name: str, path: Path) -> bool:
        """Load a bundle. Raise RefusedError with the reason, but without paths of this machine."""
        try:
            return await self._load(str(path))
        except NewsieError as error:
            said, why = str(error), {"why": str(error)}
        except Exception as error:  # a library's message may hold anything, so only the log gets it
            said, why = "the log says why", {"fault": place_of(error)}
        write_line({"level": "error", "event": "model not loaded", **why})
        said = said.replace(str(path), repr(name)).replace(str(path.parent), "models_dir")
        message = f"the model {name!r} cannot be used, and the old one stays: {said}"
        raise RefusedError(422, "bundle", sendable(message[:MAX_REASON_CHARACTERS]))

    async def _load(self, source: str | None) -> bool:
        seconds = self._settings.load_timeout_seconds
        try:
            model = await within(seconds, lambda: self._open(source), _discard)
        except TimeoutError:
            raise BundleError(
                f"the model {source or 'of the package'} was not ready within {seconds:g} s (setting "
                "load_timeout_seconds); its loading cannot be stopped and may go on: use another "
                "bundle, and restart the server if a core stays busy"
            ) from None
        if model is None:
            self._note(self._service.current)
            return False
        before = self._service.serve(model)
        self._note(model)
        write_line({"event": "model loaded", "model": model.fingerprint, "name": model.name})
        if before is not None:
            task = asyncio.create_task(before.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        return True

    def _open(self, source: str | None) -> ServedModel | None:
        """Return a verified, warmed and tested model, or None if it is the same as the current one."""
        current = self._service.current
        known = current is not None and source is not None and Path(source).is_dir()
        if known and current and read_bundle(source or "").fingerprint == current.fingerprint:
            return None
        classifier = Classifier.from_pretrained(source, threads=self._settings.threads)
        self_test(classifier)
        model = self._service.prepare(classifier)
        try:
            rehearse(self._service, model)
        except BaseException:
            _discard(model)
            raise
        return model

    def _note(self, model: ServedModel | None) -> None:
        """Publish the model of this worker to the other workers."""
        if self._shared is not None and model is not None:
            self._shared.note_model(model.fingerprint)
            (self._shared.directory / READY).touch()

    @contextmanager
    def _only_chooser(self) -> Iterator[None]:
        """Raise RefusedError if another worker is swapping models."""
        if self._shared is None:
            yield
            return
        with self._shared.choosing() as alone:
            if not alone:
                raise _busy()
            yield

    async def _tell_workers(self, fingerprint: str) -> tuple[int, int]:
        """Let all workers load the model. Return the number of workers and of those that loaded it.

        The parent process passes SIGHUP on to them. Return when each worker has swapped or failed, or after
        `load_timeout_seconds`.
        """
        if self._shared is None:
            return 1, 1
        choice = self._shared.choose(self._chosen or "")
        os.kill(os.getppid(), signal.SIGHUP)
        workers, end = (
            self._settings.workers,
            time.monotonic() + self._settings.load_timeout_seconds,
        )
        while True:
            swapped, failed = self._shared.count(fingerprint, choice)
            if swapped + failed >= workers or time.monotonic() >= end:
                return workers, min(swapped, workers)
            await asyncio.sleep(POLL_SECONDS)


def _busy() -> RefusedError:
    return RefusedError(409, "busy", "another model is being loaded; try again later")


def _discard(model: ServedModel | None) -> None:
    """Close a model that will not be served."""
    if model is not None:
        model.discard()
