"""The run store: one folder for the result of each stage, named by the arguments of the stage.

A stage is a function of a workspace and its inputs. Calling it with a store computes the result once:

    @stage("teacher", opens=MultiTaskModel.load, resumable=True)
    def fit_teacher(work: Workspace, corpora: Corpora, config: TeacherConfig, seed: int) -> None:
        ...  # writes into work.folder

    teacher = fit_teacher(store, corpora, config, seed)

The folder's name holds the fingerprint of all arguments, so no dependency can be forgotten: a complete
folder is opened, an interrupted stage goes on, and changed inputs get a new folder.
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
"""Folder of a run that holds a record for each complete stage: its inputs' fingerprints, as JSON."""


class RunStore:
    """The results of a run, and the processes that compute them.

    Args:
        directory: of the run; made if it does not exist.
        precision: "fp32", "bf16", or "auto", which measures once and keeps the answer with the run.
        trackers: names of Accelerate's trackers, e.g. ["tensorboard"].
        ray: address of a Ray cluster that computes the soft labels; empty: this machine does.
        also: folder of a finished run, whose results are used where they have the same inputs. It is
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
        # Several CPU processes find each other only if they are told that they run on CPUs.
        cpu = not torch.accelerator.is_available()
        # The other processes wait while one reads the articles, which may take long.
        state = PartialState(cpu=cpu, timeout=timedelta(hours=24))
        with state.main_process_first():
            # Kept with the run: a resumed run must compute as it did before.
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
        """Whether models run in bf16."""
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
                if folder.exists():  # people delete folders to compute them again
                    return folder
        return None

    def discard(self, name: str) -> None:
        """Remove the folder of a stage, complete or not."""
        _record(self.directory, name).unlink(missing_ok=True)
        shutil.rmtree(self.directory / name, ignore_errors=True)


@dataclass(frozen=True)
class Workspace:
    """What a stage computes with. None of it decides the result, except the store's precision.

    Attributes:
        store: gives the processes, and the results of other stages.
        folder: where the result goes; of this stage alone.
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
        """Return the result, computed now or before."""
        inputs = self._fingerprints(store, *args, **kwargs)
        name = f"{self.name}-{digest(inputs)}"
        folder = store.complete(name)
        store.accelerator.wait_for_everyone()  # all have looked before one marks it as complete
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
    """Make a stage of a function that fills `work.folder`.

    Args:
        name: begins the names of its folders.
        opens: reads the result from a complete folder.
        resumable: all processes call the function, which goes on with what it finds in the folder. Otherwise
            the main process alone calls it, with no folder there.
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
    """Keep other processes from working in the same folder, which exists.

    Raises:
        TrainingError: another process is at work there.
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
