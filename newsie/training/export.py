"""Export of a trained student to ONNX, and the check that the graphs agree with the model."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DistilBertModel

from newsie.data.encoding import pad
from newsie.errors import MissingExtraError, QualityGateError, TrainingError
from newsie.inference.student import BATCH_TOKENS, import_onnxruntime
from newsie.metrics.evaluation import softmax
from newsie.training.model import MultiTaskModel
from newsie.training.nano import NanoEncoder

__all__ = ["Agreement", "Parity", "check_parity", "export_onnx"]

OPSET = 20
INPUTS = ("input_ids", "attention_mask")


class _Answers(nn.Module):
    """The model with its logits as a tuple, as an ONNX graph returns them."""

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of each task: (B, T), (B, T) -> (B, C_task), ..."""
        return tuple(self.model(input_ids, attention_mask).values())


def export_onnx(model: MultiTaskModel, path: Path) -> None:
    """Write a student as an ONNX graph in float32.

    The inputs are input_ids and attention_mask, both (B, T) int64 with dynamic B and T. The outputs are
    named after the tasks, (B, C_task) float32 each, in the order of the label space. The model itself
    does not change.

    Args:
        model: the student; its encoder's positions, if any, bound T.
        path: the file to write, e.g. model.onnx, which includes the weights.

    Raises:
        TrainingError: the encoder is neither a DistilBERT nor a nano.
        MissingExtraError: onnx or onnxscript is not installed.
    """
    encoder = model.encoder
    if not isinstance(encoder, DistilBertModel | NanoEncoder):
        raise TrainingError(
            f"a student's encoder is a DistilBertModel or a NanoEncoder, this one is a "
            f"{type(encoder).__name__}; make a student of it with student_from_teacher"
        )
    tasks = model.labels.names
    example = torch.ones(2, 8, dtype=torch.int64)
    positions = getattr(encoder.config, "max_position_embeddings", None)
    dynamic = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", max=positions)}
    with _evaluating(model), _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                _Answers(model).eval(),
                (example, example.clone()),
                input_names=list(INPUTS),
                output_names=list(tasks),
                dynamic_shapes=(dynamic, dynamic),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except ImportError as error:
            raise MissingExtraError("exporting a model", error.name or "onnx", "train") from error
        assert program is not None  # since dynamo exports it
        if isinstance(encoder, NanoEncoder):
            program.model.metadata_props[BATCH_TOKENS] = str(encoder.batch_tokens)
        program.save(str(path), external_data=False)


@dataclass(frozen=True)
class Agreement:
    """The agreement between the predictions of two forms of one model.

    Attributes:
        max_difference: the largest absolute difference of a probability.
        mean_difference: the mean over articles of the largest difference of a probability.
        labels: the share of articles that get the same label.
    """

    max_difference: float
    mean_difference: float
    labels: float


@dataclass(frozen=True)
class Parity:
    """The agreement of the float32 graph and of the int8 graph with the model, by task."""

    onnx: Mapping[str, Agreement]
    int8: Mapping[str, Agreement]

    def to_json(self) -> dict[str, Any]:
        """Return the agreement as plain JSON values."""
        return asdict(self)

    def check(
        self, *, max_onnx_difference: float = 1e-4, max_int8_difference: float = 0.02
    ) -> None:
        """Check that the differences are within bounds.

        Raises:
            QualityGateError: the float32 graph's largest difference of a probability exceeds
                `max_onnx_difference`, or the int8 graph's mean difference exceeds `max_int8_difference`.
        """
        for task, found in self.onnx.items():
            if found.max_difference > max_onnx_difference:
                raise QualityGateError(
                    f"task {task!r}: the ONNX graph is {found.max_difference:.2g} off in a "
                    f"probability, allowed is {max_onnx_difference:.2g}; the export is wrong"
                )
        for task, found in self.int8.items():
            if found.mean_difference > max_int8_difference:
                raise QualityGateError(
                    f"task {task!r}: the int8 graph is {found.mean_difference:.2g} off in a "
                    f"probability on the mean, allowed is {max_int8_difference:.2g}; int8 breaks this "
                    "student: train it longer, or with another seed"
                )


def check_parity(
    model: MultiTaskModel, onnx: Path, int8: Path, ids: Sequence[Sequence[int]], *, pad_id: int = 0
) -> Parity:
    """Compare a model with its graphs on the given articles.

    Args:
        model: the model.
        onnx: the graph that `export_onnx` wrote.
        int8: the graph that `quantize_int8` wrote.
        ids: the token ids of N articles (`Encoder.encode(...).ids`), as varied in length as those that
            will be served.
        pad_id: the id of the padding token.
    """
    batches = [pad([ids[i] for i in rows], pad_id) for rows in _rows_by_length(ids)]
    with _evaluating(model), torch.no_grad():
        wanted = [
            {k: v.numpy() for k, v in model(torch.from_numpy(i), torch.from_numpy(m)).items()}
            for i, m in batches
        ]
    return Parity(
        **{
            form: {
                task: _agreement(
                    np.concatenate([batch[task] for batch in wanted]),
                    np.concatenate([batch[task] for batch in _run(path, model, batches)]),
                )
                for task in model.labels.names
            }
            for form, path in (("onnx", onnx), ("int8", int8))
        }
    )


def _agreement(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> Agreement:
    difference = np.abs(softmax(wanted) - softmax(found)).max(axis=1)  # (N,)
    same = wanted.argmax(axis=1) == found.argmax(axis=1)
    return Agreement(float(difference.max()), float(difference.mean()), float(same.mean()))


def _rows_by_length(ids: Sequence[Sequence[int]], size: int = 16) -> list[NDArray[np.int64]]:
    order = np.argsort([len(row) for row in ids], kind="stable")
    return [order[start : start + size] for start in range(0, len(order), size)]


def _run(
    path: Path,
    model: MultiTaskModel,
    batches: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> list[dict[str, NDArray[np.float32]]]:

    names = list(model.labels.names)
    session = import_onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [
        dict(zip(names, session.run(names, dict(zip(INPUTS, batch, strict=True))), strict=True))
        for batch in batches
    ]


@contextlib.contextmanager
def _evaluating(model: MultiTaskModel) -> Iterator[None]:
    """Put the model in evaluation mode, and restore its mode afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's output, log messages and warnings."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
