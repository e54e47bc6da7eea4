"""Classification of files into files on a Ray cluster: as `Bulk.many` does locally, with a file per task.

Every actor holds the student and classifies whole files with the code that a single machine runs, so the
result is the same row by row. Its parts lie beside the predictions: if a node is lost, another one continues
after them.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from newsie.cli.bulk import Bulk, Job, folder_of
from newsie.inference.openvino import ONNXRUNTIME, VARIABLE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["many_on_ray"]

Columns = dict[str, "NDArray[np.str_]"]


class _Worker:
    """A student in an actor.

    Args:
        model: the location of the model, from `_place`.
        fingerprint: the fingerprint that the bundle must have.
        runtime: the value of NEWSIE_RUNTIME for the command.
        bulk: the further arguments of `Bulk`.
    """

    def __init__(self, model: str | None, fingerprint: str, runtime: str, *bulk: Any) -> None:
        from newsie.errors import BundleError, NewsieError
        from newsie.inference.classifier import Classifier

        self._refusal = ""
        os.environ[VARIABLE] = runtime
        try:
            # One thread, because Ray gives an actor one core.
            classifier = Classifier.from_pretrained(model, threads=1)
            found = classifier.bundle.fingerprint
            if found != fingerprint:
                raise BundleError(
                    f"{classifier.bundle.path} is another model there: {found}, not {fingerprint}"
                )
            self._bulk = Bulk(classifier, *bulk)
        except NewsieError as error:
            # Not raised, because Ray would restart the actor and print a traceback of its own.
            self._refusal = f"node {platform.node()}: {error}"

    def __call__(self, batch: Columns) -> Mapping[str, Any]:
        """Classify files; return for each the "error", and the "refusal" if this node can classify none.

        Both are empty on success.
        """
        from newsie.errors import InputError

        errors = []
        for source, target in zip(batch["source"], batch["target"], strict=True):
            try:
                if not self._refusal:
                    self._bulk.one(Job(Path(str(source)), Path(str(target))))
                errors.append("")
            except InputError as error:
                errors.append(str(error))
        refusals = [self._refusal] * len(errors)
        return {**batch, "error": errors, "refusal": refusals}


def many_on_ray(bulk: Bulk, jobs: Sequence[Job], model: str | None) -> None:
    """Classify files into a folder, on the cluster of RAY_ADDRESS or on this machine's cores.

    Files, predictions and model must be at the same path on all nodes. Finished files are skipped.

    Args:
        bulk: the settings of the classification.
        jobs: the files.
        model: the model that the classifier of `bulk` was opened from.

    Raises:
        BundleError: a node lacks the model, or has another one.
        InputError: some files could not be classified; stderr names them.
        MissingExtraError: Ray is not installed.
    """
    from newsie.cli.terminal import note
    from newsie.errors import BundleError, InputError, MissingExtraError

    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("classifying on Ray", error.name or "ray", "ray") from error
    jobs[0].target.parent.mkdir(parents=True, exist_ok=True)
    left = {str(job.target.absolute()): job for job in jobs if not bulk.is_done(job)}
    failed = 0
    if left:
        if not ray.is_initialized():
            ray.init(log_to_driver=False, configure_logging=False, include_dashboard=False)
        cores = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
        for row in _answered(left, _arguments(bulk, model), cores):
            if row["refusal"]:
                raise BundleError(row["refusal"])
            if row["error"]:
                failed += 1
                note(f"newsie: {row['error']}")
            else:
                bulk.remember(left[row["target"]])
                note(f"{row['source']} is answered in {row['target']}")
    note(f"{len(jobs) - failed:,} of {len(jobs):,} files are answered in {folder_of(jobs)}")
    if failed:
        raise InputError(f"{failed:,} of {len(jobs):,} files could not be classified, see above")


def _arguments(bulk: Bulk, model: str | None) -> tuple[Any, ...]:
    """Return the arguments of `_Worker`: the same model in the same runtime, on any node."""
    runtime = os.environ.get(VARIABLE) or ONNXRUNTIME
    of_bulk = (bulk.tasks, bulk.top_k, dict(bulk.columns), bulk.strict, bulk.raw)
    return _place(model), bulk.classifier.bundle.fingerprint, runtime, *of_bulk


def _place(model: str | None) -> str | None:
    """Return a model for processes elsewhere: the absolute path of a directory, or a hub id as it is."""
    return str(Path(model).absolute()) if model and Path(model).is_dir() else model


def _answered(left: Mapping[str, Job], arguments: tuple[Any, ...], cores: int) -> Any:
    """Return a row for each file, as they finish."""
    import ray.data

    items = [
        {"source": str(job.source.absolute()), "target": target} for target, job in left.items()
    ]
    files = ray.data.from_items(items, override_num_blocks=len(items))
    actors = max(1, min(cores, len(items)))
    answered = files.map_batches(
        _Worker,
        fn_constructor_args=arguments,
        batch_size=1,
        batch_format="numpy",
        # A growing pool would not grow, because Ray never finds an actor with one file at a time
        # busy enough.
        compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
        num_cpus=1,
    )
    return answered.iter_rows()
