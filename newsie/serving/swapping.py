"""Hot swap: another model takes the place of the one that answers, and nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from newsie.bundle import read_bundle
from newsie.classifier import Classifier
from newsie.errors import NewsieError
from newsie.serving.logs import write_line
from newsie.serving.model import self_test
from newsie.serving.refusals import RefusedError
from newsie.serving.service import Service
from newsie.serving.settings import Settings
from newsie.serving.workers import READY, SHARED_VARIABLE

__all__ = ["Swapper"]

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Swapper:
    """Loads, verifies, warms and tests a model beside the old one, swaps in one step, drains the old.

    Whatever fails, the old one stays.

    Args:
        service: where the model answers.
        settings: where models are.
    """

    def __init__(self, service: Service, settings: Settings) -> None:
        self._service, self._settings = service, settings
        self._busy = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        shared = os.environ.get(SHARED_VARIABLE)
        self._chosen = settings.model
        self._choice = Path(shared) / "model" if shared else None

    async def reload(self) -> bool:
        """Load what was chosen last, or what the settings say, anew; False where it is the same.

        Raises:
            NewsieError: it cannot be used.
        """
        if self._choice is not None and self._choice.is_file():
            self._chosen = self._choice.read_text(encoding="utf-8")
        async with self._busy:
            return await self._load(self._chosen)

    async def choose(self, name: str) -> bool:
        """Load the bundle of that name in `models_dir`; False where it answers already.

        Raises:
            RefusedError: there is no such bundle, it cannot be used, or another one is being loaded.
        """
        path = self._find(name)
        if self._busy.locked():
            raise RefusedError(409, "busy", "another model is being loaded; try again later")
        async with self._busy:
            try:
                new = await self._load(str(path))
            except NewsieError as error:
                write_line({"level": "error", "event": "model not loaded", "why": str(error)})
                raise RefusedError(
                    422,
                    "bundle",
                    f"the model {name!r} cannot be used, and the old one stays; the log says why",
                ) from error
        self._chosen = str(path)
        self._tell_workers(path)
        return new

    async def close(self) -> None:
        """Wait for what was swapped out, and close what answers now."""
        if self._closing:
            await asyncio.wait(self._closing)
        if self._service.current is not None:
            await self._service.current.close()

    def _find(self, name: str) -> Path:
        directory = self._settings.models_dir
        if directory is None:
            raise RefusedError(403, "models_dir", "this server has no directory of models")
        path = directory.resolve() / name
        # Also a link must not lead out of the directory.
        if not _NAME.fullmatch(name) or not path.resolve().is_relative_to(directory.resolve()):
            raise RefusedError(
                422, "name", "a model is named by letters, digits, '.', '_' and '-', without a path"
            )
        if not path.is_dir():
            raise RefusedError(404, "no_model", f"there is no model {name!r}")
        return path

    async def _load(self, source: str | None) -> bool:
        classifier = await _aside(lambda: self._open(source))
        if classifier is None:
            return False
        before = self._service.serve(classifier)
        if self._choice is not None:
            (self._choice.parent / READY).touch()
        write_line(
            {
                "event": "model loaded",
                "model": classifier.bundle.fingerprint,
                "name": classifier.bundle.manifest.name,
            }
        )
        if before is not None:
            task = asyncio.create_task(before.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        return True

    def _open(self, source: str | None) -> Classifier | None:
        """A model that was verified, warmed and tested; None if its answers are those of today."""
        current = self._service.current
        known = current is not None and source is not None and Path(source).is_dir()
        if known and current and read_bundle(source or "").fingerprint == current.fingerprint:
            return None
        classifier = Classifier.from_pretrained(source, threads=self._settings.threads)
        self_test(classifier)
        return classifier

    def _tell_workers(self, path: Path) -> None:
        """Let all workers load the same: the process that started them passes SIGHUP on."""
        if self._choice is None:
            return
        with tempfile.NamedTemporaryFile(
            "w", dir=self._choice.parent, delete=False, encoding="utf-8"
        ) as file:
            file.write(str(path))
        os.replace(file.name, self._choice)
        os.kill(os.getppid(), signal.SIGHUP)


async def _aside(function: Callable[[], T]) -> T:
    """Call in a thread that does not hold up the end of the process: a download may take long."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if future.done():  # nobody waits any more
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(T, result))

    def work() -> None:
        result, caught = None, None
        try:
            result = function()
        except BaseException as error:  # whatever it is, who waits must hear of it
            caught = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(finish, result, caught)

    threading.Thread(target=work, name="newsie-load", daemon=True).start()
    return await future
