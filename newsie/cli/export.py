"""`newsie export`: a student for other tools."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from newsie.cli.options import Model, chosen_tasks
from newsie.errors import MissingExtraError

if TYPE_CHECKING:
    from newsie.bundles.bundle import Bundle

__all__ = ["export"]


class Format(StrEnum):
    """The tool that the export is for."""

    transformers = "transformers"
    onnx = "onnx"


def export(
    output: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="The folder (transformers) or file (ONNX) to write."),
    ],
    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            help="transformers: one task as a folder that transformers.pipeline loads. onnx: one file "
            "with labels, calibration, encoding and tokenizer in its metadata.",
            show_default=False,
        ),
    ],
    task: Annotated[
        str | None, typer.Option(help="The task; for transformers only.", show_default=False)
    ] = None,
    model: Model = None,
) -> None:
    """Write a model for tools that do not know newsie."""
    from newsie.inference.classifier import Classifier

    if (task is None) == (format_ is Format.transformers):
        given = f"{task!r} was given" if task else "none was given"
        raise typer.BadParameter(
            f"transformers answers one task a folder, and ONNX keeps all tasks; {given}",
            param_hint="--task",
        )
    bundle = Classifier.from_pretrained(model, threads=1).bundle
    if task is None:
        from newsie.graph.metadata import export_labelled_onnx

        export_labelled_onnx(bundle, output)
    else:
        chosen_tasks([task], bundle.manifest.label_space)
        _export_transformers(bundle, task, output)
    print(output)


def _export_transformers(bundle: Bundle, task: str, directory: Path) -> None:
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise MissingExtraError("exporting for transformers", str(error.name), "train") from error
    from newsie.training.revived_student import revive_student
    from newsie.training.transformers_folder import export_transformers

    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    export_transformers(revive_student(bundle), bundle, task, directory)
