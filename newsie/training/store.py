"""The run store: a folder for the result of each stage, named by the stage's arguments.

A stage is a function of a workspace and its inputs. Calling it with a store computes the result once:

    @stage("teacher", opens=MultiTaskModel.load, resumable=True)
    def fit_teacher(work: Workspace, corpora: Corpora, config: TeacherConfig, seed: int) -> None:
        ...  # writes into work.folder

    teacher = fit_teacher(store, corpora, config, seed)

The folder's name contains the fingerprint of all arguments, so no dependency can be forgotten. A complete
folder is opened, an interrupted stage resumes, and changed inputs get a new folder.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import torch
from accelerate import Accelerator, PartialState
from filelock import FileLock, Timeout

from newsie.atomic import write_text
from newsie.errors import InputError, TrainingError
from newsie.training.fingerprints import digest, fingerprint
from newsie.training.precision import Precision, PrecisionChoice, choose_precision

__all__ = ["RunStore", "Stage", "Workspace", "data_folder", "locked", "stage"]

Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")

RECORDS = "stages"
"""The folder of a run with a record for each complete stage: the fingerprints of its inputs, as JSON."""


class RunStore:
    """The results of a run, and the processes that compute them.

    Args:
        directory: the folder of the run; created if it does not exist.
        precision: "fp32", "bf16", or "auto", which measures once and stores the result with the run.
        trackers: the names of Accelerate's trackers, e.g. ["tensorboard"].
        ray: the address of a Ray cluster that computes the soft labels; empty means this machine.
        also: the folder of a finished run whose results are reused if their inputs are the same. It is
            never written to.
    """

    def __init__(
        self,
        directory: Path,
        *,
        precision: PrecisionChoice = "auto",
        trackers: Sequence[str] = (),
        ray: str = "",
        also: Path | None = None,
    ) -> None:
        self.directory, self.ray, self.also = directory, ray, also
        directory.mkdir(parents=True, exist_ok=True)
        # Several CPU processes connect only if Accelerate knows that they run on CPUs.
        cpu = not torch.accelerator.is_available()
        # The other processes wait while one reads the articles, which may take a long time.
        state = PartialState(cpu=cpu, timeout=timedelta(hours=24))
        with state.main_process_first():
            # The choice is stored, since a resumed run must compute as before.
            record = (also or directory) / "precision.json"
            self.precision: Precision = choose_precision(precision, record)
        self.accelerator = Accelerator(
            mixed_precision="bf16" if self.precision == "bf16" else "no",
            cpu=cpu,
            log_with=list(trackers) or None,
            project_dir=str(directory),
        )
        if trackers:
            self.accelerator.init_trackers("trackers")

    @property
    def autocast(self) -> bool:
        """True if models run in bf16."""
        return self.precision == "bf16"

    def say(self, text: str) -> None:
        """Print a line of progress to stderr, from the main process only."""
        if self.accelerator.is_main_process:
            print(text, file=sys.stderr, flush=True)

    def locked(self) -> AbstractContextManager[None]:
        """Keep other runs from working in this folder; see `locked`."""
        return locked(self.directory)

    def complete(self, name: str) -> Path | None:
        """Return the folder of a complete stage, or None."""
        for directory in (self.directory, self.also):
            if directory is not None and _record(directory, name).exists():
                folder = directory / name
                if folder.exists():  # users may delete a folder to compute it again
                    return folder
        return None

    def discard(self, name: str) -> None:
        """Remove the folder of a stage, complete or not."""
        _record(self.directory, name).unlink(missing_ok=True)
        shutil.rmtree(self.directory / name, ignore_errors=True)


@dataclass(frozen=True)
class Workspace:
    """The environment of a stage. It does not affect the result, except for the store's precision.

    Attributes:
        store: the processes, and the results of other stages.
        folder: the folder of the result, which belongs to this stage alone.
    """

    store: RunStore
    folder: Path


class Stage(Generic[Inputs, Result]):
    """A stage of a run; call it with a store and its inputs. See `stage`."""

    def __init__(
        self,
        name: str,
        compute: Callable[Concatenate[Workspace, Inputs], None],
        opens: Callable[[Path], Result],
        resumable: bool,
    ) -> None:
        self.name, self.compute, self.opens, self.resumable = name, compute, opens, resumable
        functools.update_wrapper(self, compute)

    def __call__(self, store: RunStore, *args: Inputs.args, **kwargs: Inputs.kwargs) -> Result:
        """Return the result, computing it unless it is complete."""
        inputs = self._fingerprints(store, *args, **kwargs)
        name = f"{self.name}-{digest(inputs)}"
        folder = store.complete(name)
        store.accelerator.wait_for_everyone()  # all must look before one marks it as complete
        if folder is None:
            folder = store.directory / name
            if self.resumable:  # all processes take part
                self.compute(Workspace(store, folder), *args, **kwargs)
            elif store.accelerator.is_main_process:
                shutil.rmtree(folder, ignore_errors=True)
                self.compute(Workspace(store, folder), *args, **kwargs)
            store.accelerator.wait_for_everyone()
            if store.accelerator.is_main_process:
                _write_record(store.directory, name, inputs)
            store.accelerator.wait_for_everyone()
        return self.opens(folder)

    def open(self, store: RunStore, *args: Inputs.args, **kwargs: Inputs.kwargs) -> Result:
        """Return the result of a complete stage, without computing anything.

        Raises:
            TrainingError: the stage is not complete.
        """
        name = self.folder_name(store, *args, **kwargs)
        folder = store.complete(name)
        if folder is None:
            places = [str(place) for place in (store.directory, store.also) if place is not None]
            raise TrainingError(
                f"there is no finished {name} in {' or '.join(places)}; the recipe's [data], [teacher] and "
                "seed, and the files of the corpora, must be those of the run that is named"
            )
        return self.opens(folder)

    def folder_name(self, store: RunStore, *args: Inputs.args, **kwargs: Inputs.kwargs) -> str:
        """Return the name of the folder of these inputs, whether it exists or not."""
        return f"{self.name}-{digest(self._fingerprints(store, *args, **kwargs))}"

    def _fingerprints(
        self, store: RunStore, *args: Inputs.args, **kwargs: Inputs.kwargs
    ) -> dict[str, Any]:
        """Return the fingerprint of each argument, by its name."""
        bound = inspect.signature(self.compute).bind(None, *args, **kwargs)
        bound.apply_defaults()
        _, *arguments = bound.arguments.items()
        inputs = {name: fingerprint(value) for name, value in arguments}
        return {**inputs, "precision": store.precision}


def stage(
    name: str, *, opens: Callable[[Path], Result], resumable: bool = False
) -> Callable[[Callable[Concatenate[Workspace, Inputs], None]], Stage[Inputs, Result]]:
    """Return a decorator that makes a stage of a function that fills `work.folder`.

    Args:
        name: the prefix of the stage's folder names.
        opens: reads the result from a complete folder.
        resumable: all processes call the function, which resumes from the contents of the folder. Otherwise
            only the main process calls it, without an existing folder.
    """

    def decorate(compute: Callable[Concatenate[Workspace, Inputs], None]) -> Stage[Inputs, Result]:
        return Stage(name, compute, opens, resumable)

    return decorate


def _record(directory: Path, name: str) -> Path:
    return directory / RECORDS / f"{name}.json"


def _write_record(directory: Path, name: str, inputs: dict[str, Any]) -> None:
    (directory / RECORDS).mkdir(exist_ok=True)
    write_text(_record(directory, name), json.dumps(inputs, indent=1))


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes from working in the same folder, which must exist.

    Raises:
        TrainingError: another process is working there.
    """
    try:
        with FileLock(directory / ".lock", timeout=0):
            yield
    except Timeout:
        raise TrainingError(
            f"another newsie is at work in {directory}; wait for it, or choose another folder"
        ) from None


def data_folder(given: Path | None) -> Path:
    """Return the folder of the corpora: the given one, else NEWSIE_DATA, else the current one."""
    path = given or Path(os.environ.get("NEWSIE_DATA", "."))
    if not path.is_dir():
        raise InputError(
            f"the data folder {path} is not a directory; name one with --data or NEWSIE_DATA"
        )
    return path
