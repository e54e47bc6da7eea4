"""Files into files on a Ray cluster: the same as `Bulk.many` does here, a file for each task.

Every actor holds the student and answers whole files, by the code that a single machine runs, so that the
result is the same row by row. Its parts lie beside the answers: when a node is lost, another one goes on
behind them.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from newsie.cli.bulk import Bulk, Job, folder_of
from newsie.openvino_session import ONNXRUNTIME, VARIABLE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["many_on_ray"]

Columns = dict[str, "NDArray[np.str_]"]


class _Worker:
    """A student in an actor.

    Args:
        model: where it is, as `_place` gives it.
        fingerprint: of the bundle that must be there.
        runtime: what NEWSIE_RUNTIME is where the command was given.
        bulk: the further arguments of `Bulk`.
    """

    def __init__(self, model: str | None, fingerprint: str, runtime: str, *bulk: Any) -> None:
        from newsie.classifier import Classifier
        from newsie.errors import BundleError, NewsieError

        self._refusal = ""
        os.environ[VARIABLE] = runtime
        try:
            # One thread: a core is what Ray gives an actor.
            classifier = Classifier.from_pretrained(model, threads=1)
            found = classifier.bundle.fingerprint
            if found != fingerprint:
                raise BundleError(
                    f"{classifier.bundle.path} is another model there: {found}, not {fingerprint}"
                )
            self._bulk = Bulk(classifier, *bulk)
        except NewsieError as error:
            # Not raised: Ray would start the actor again, and say it in a traceback of its own.
            self._refusal = f"node {platform.node()}: {error}"

    def __call__(self, batch: Columns) -> Mapping[str, Any]:
        """Answer files; "error" says why one could not be, "refusal" why this node can answer none;
        both are else empty."""
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
    """Answer files into a folder, on the cluster that RAY_ADDRESS names or on this machine's cores.

    Files, answers and model must lie where all nodes see them under the same path. Files that are done
    already are left out.

    Args:
        bulk: how they are answered.
        jobs: the files.
        model: what the classifier of `bulk` was opened from.

    Raises:
        BundleError: a node has no such model, or another one.
        InputError: some files could not be classified; which ones was said on stderr.
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
    """Those of `_Worker`: the same model in the same runtime, wherever it is started."""
    runtime = os.environ.get(VARIABLE) or ONNXRUNTIME
    of_bulk = (bulk.tasks, bulk.top_k, dict(bulk.columns), bulk.strict, bulk.raw)
    return _place(model), bulk.classifier.bundle.fingerprint, runtime, *of_bulk


def _place(model: str | None) -> str | None:
    """A model for processes that run elsewhere: a directory by its whole path, a hub id as it is."""
    return str(Path(model).absolute()) if model and Path(model).is_dir() else model


def _answered(left: Mapping[str, Job], arguments: tuple[Any, ...], cores: int) -> Any:
    """A row for each file, as they are done."""
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
        # A pool that may grow does not: for Ray, an actor with one file at a time is never busy enough.
        compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
        num_cpus=1,
    )
    return answered.iter_rows()
