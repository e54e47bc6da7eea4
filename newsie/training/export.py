"""From a trained model to the ONNX graph that serves: export, int8, and proof that they agree."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from newsie.data.encoding import pad
from newsie.errors import LabelError, MissingExtraError, QualityGateError
from newsie.training.model import MultiTaskModel

__all__ = ["Agreement", "Parity", "check_parity", "export_onnx", "quantize_int8"]

OPSET = 20
INPUTS = ("input_ids", "attention_mask")


class _Outputs(nn.Module):
    """The model with its answers as a tuple, which is what an ONNX graph returns."""

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model(input_ids, attention_mask).values())


def export_onnx(model: MultiTaskModel, path: Path) -> None:
    """Write a model as an ONNX graph in float32.

    Its inputs are input_ids and attention_mask, both (B, T) int64, B and T free; its outputs are
    named as the tasks, (B, C_task) float32 each, in the order of the label space. The model is left
    as it was.

    Args:
        model: the model; its encoder's positions bound T.
        path: the file, e.g. model.onnx; weights are inside.

    Raises:
        LabelError: a task has the name of an input.
        MissingExtraError: onnx or onnxscript is not installed.
    """
    tasks = model.labels.names
    if taken := sorted(set(tasks) & set(INPUTS)):
        raise LabelError(f"a task cannot be named {taken}, an input of the graph; rename it")
    example = torch.ones(2, 8, dtype=torch.int64)
    dynamic = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", max=_positions(model))}
    with _exportable(model), _quiet(), torch.no_grad():
        try:
            torch.onnx.export(
                _Outputs(model).eval(),
                (example, example.clone()),
                str(path),
                input_names=list(INPUTS),
                output_names=list(tasks),
                dynamic_shapes=(dynamic, dynamic),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except ImportError as error:
            raise MissingExtraError("exporting a model", error.name or "onnx", "train") from error


def quantize_int8(source: Path, destination: Path) -> None:
    """Make an int8 graph of a float32 one.

    Weights of matrix products per channel, embeddings per tensor, both signed; activations are
    quantised at run time, over the whole batch at once.

    Args:
        source: what `export_onnx` wrote.
        destination: the file to write.
    """
    try:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise MissingExtraError("quantising a model", error.name or "onnx", "train") from error

    graph = onnx.load(source)
    # Shapes that the exporter noted contradict those that the quantiser infers for its new nodes.
    del graph.graph.value_info[:]
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        stripped = Path(scratch) / "stripped.onnx"
        onnx.save(graph, stripped)
        quantize_dynamic(stripped, destination, per_channel=True, weight_type=QuantType.QInt8)


@dataclass(frozen=True)
class Agreement:
    """How far the answers of two forms of one model are apart.

    Attributes:
        max_difference: largest absolute difference of a probability.
        mean_difference: mean over articles of the largest difference of a probability.
        labels: share of articles that get the same label.
    """

    max_difference: float
    mean_difference: float
    labels: float


@dataclass(frozen=True)
class Parity:
    """Agreement by task of the graph with the model, and of the int8 graph with the model."""

    onnx: Mapping[str, Agreement]
    int8: Mapping[str, Agreement]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    def check(self, *, max_onnx_difference: float = 1e-4, min_int8_labels: float = 0.97) -> None:
        """Compare with bounds.

        Raises:
            QualityGateError: a probability of the float32 graph is further from the model's than
                `max_onnx_difference`, or the int8 graph gives the same label to a smaller share of
                articles than `min_int8_labels`.
        """
        for task, found in self.onnx.items():
            if found.max_difference > max_onnx_difference:
                raise QualityGateError(
                    f"task {task!r}: the ONNX graph is {found.max_difference:.2g} off in a "
                    f"probability, allowed is {max_onnx_difference:.2g}; the export is wrong"
                )
        for task, found in self.int8.items():
            if found.labels < min_int8_labels:
                raise QualityGateError(
                    f"task {task!r}: the int8 graph agrees on {found.labels:.1%} of the labels, "
                    f"allowed is {min_int8_labels:.1%}; publish the float32 graph instead"
                )


def check_parity(
    model: MultiTaskModel, onnx: Path, int8: Path, ids: Sequence[Sequence[int]], *, pad_id: int = 0
) -> Parity:
    """Compare a model with its graphs on given articles.

    Args:
        model: the model.
        onnx: what `export_onnx` wrote.
        int8: what `quantize_int8` wrote.
        ids: token ids of N articles (`Encoder.encode(...).ids`), as unlike in length as those that
            will be served.
        pad_id: the id that fills up shorter rows.
    """
    batches = [pad([ids[i] for i in rows], pad_id) for rows in _rows_by_length(ids)]
    with _exportable(model), torch.no_grad():
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
    difference = np.abs(_softmax(wanted) - _softmax(found)).max(axis=1)  # (N,)
    same = wanted.argmax(axis=1) == found.argmax(axis=1)
    return Agreement(float(difference.max()), float(difference.mean()), float(same.mean()))


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    exp = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True), dtype=np.float64)


def _rows_by_length(ids: Sequence[Sequence[int]], size: int = 16) -> list[NDArray[np.int64]]:
    order = np.argsort([len(row) for row in ids], kind="stable")
    return [order[start : start + size] for start in range(0, len(order), size)]


def _run(
    path: Path,
    model: MultiTaskModel,
    batches: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> list[dict[str, NDArray[np.float32]]]:
    from onnxruntime import InferenceSession

    names = list(model.labels.names)
    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [
        dict(zip(names, session.run(names, dict(zip(INPUTS, batch, strict=True))), strict=True))
        for batch in batches
    ]


def _positions(model: MultiTaskModel) -> int:
    return int(getattr(model.encoder.config, "max_position_embeddings", 512))


@contextlib.contextmanager
def _exportable(model: MultiTaskModel) -> Iterator[None]:
    """The model on the CPU's terms for tracing: no dropout, attention written out in full."""
    training, attention = model.training, model.encoder.config._attn_implementation
    model.eval()
    model.encoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.encoder.set_attn_implementation(attention)
        model.train(training)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter and the quantiser print, log and warn on every call."""
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
