"""From a student to a bundle: export, int8, calibration, parity and quality gate."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from newsie.atomic import scratch_directory
from newsie.bundle import Bundle, Lineage, read_bundle, write_bundle
from newsie.classifier import Classifier
from newsie.data.articles import Article
from newsie.data.cleaning import clean_text
from newsie.data.encoding import Encoder
from newsie.training.batches import TokenStore
from newsie.training.calibration import accuracy_lost, calibrate, check_quality, labelled_rows
from newsie.training.card import model_card
from newsie.training.corpora import Corpora
from newsie.training.export import Parity, check_parity, export_onnx
from newsie.training.model import MultiTaskModel
from newsie.training.quantization import quantize_int8
from newsie.training.soft_labels import compute_logits
from newsie.training.store import Workspace, stage

__all__ = ["commit_id", "make_bundle", "package", "without_body"]

QUALITY_ARTICLES = 4_000
"""Labelled articles a task on which int8 is compared with float. Of two forms that agree on 98 per cent
of the labels, the difference in accuracy is then known to about 0.2 points."""

PARITY_ARTICLES = 512


def make_bundle(
    student: MultiTaskModel,
    corpora: Corpora,
    encoder: Encoder,
    directory: Path,
    *,
    name: str,
    max_int8_loss: float,
    lineage: Lineage,
    calibration: Mapping[str, float] | None = None,
    max_int8_difference: float = 0.02,
) -> Bundle:
    """Export a student, prove that its int8 form is as good, calibrate it, and write the bundle.

    Args:
        student: the float student, on the CPU.
        corpora: its articles; calibrated on the validation articles, compared on these and, where they
            are few, on training articles.
        encoder: its tokenizer and the policy that it will run with.
        directory: where the bundle goes.
        name: the model's name.
        max_int8_loss: accuracy in points that int8 may lose on any task.
        lineage: where the student comes from.
        calibration: temperature by task that no validation article answers; 1 where none is given.
        max_int8_difference: how far int8's probabilities may be off on the mean.

    Raises:
        QualityGateError: int8 loses more, or the graph does not compute what the student does.
    """
    with scratch_directory(directory) as scratch:
        exact, int8 = scratch / "float.onnx", scratch / "int8.onnx"
        export_onnx(student, exact)
        quantize_int8(exact, int8)

        def write(
            target: Path, temperatures: dict[str, float], metrics: dict[str, Any], card: str = ""
        ) -> Bundle:
            return write_bundle(
                target,
                name=name,
                label_space=corpora.labels,
                encoding=encoder.policy,
                calibration=temperatures,
                model=int8,
                tokenizer=encoder.tokenizer.to_str(),
                card=card,
                metrics=metrics,
                lineage=lineage,
            )

        draft = write(scratch / "draft", dict.fromkeys(corpora.labels.names, 1.0), {})
        classifier = Classifier.from_pretrained(draft.path)
        lost, parity = _compare(student, classifier, corpora, encoder, exact, int8)
        check_quality(lost, max_int8_loss)
        parity.check(max_int8_difference=max_int8_difference)

        validation = list(corpora.articles("validation"))
        headlines = [without_body(article) for article in validation]
        labels = corpora.labels.encode(validation + headlines)
        logits = classifier.logits(validation + headlines)
        temperatures = calibrate(logits, labels, calibration)
        metrics = {"int8_accuracy_lost_points": lost, "parity": parity.to_json()}
        return write(directory, temperatures, metrics, model_card(draft.manifest))


@stage("bundle", opens=read_bundle)
def package(
    work: Workspace,
    student: MultiTaskModel,
    corpora: Corpora,
    encoder: Encoder,
    lineage: Lineage,
    *,
    name: str,
    max_int8_loss: float,
    version: str,
    calibration: Mapping[str, float] | None = None,
    max_int8_difference: float = 0.02,
) -> None:
    """Make a bundle of a student; see `make_bundle`.

    The graph's form depends on the version of Newsie. The commit of the code is only recorded.
    """
    make_bundle(
        student,
        corpora,
        encoder,
        work.folder,
        name=name,
        max_int8_loss=max_int8_loss,
        lineage=replace(lineage, commit=commit_id()),
        calibration=calibration,
        max_int8_difference=max_int8_difference,
    )


def _compare(
    student: MultiTaskModel,
    classifier: Classifier,
    corpora: Corpora,
    encoder: Encoder,
    exact: Path,
    int8: Path,
) -> tuple[dict[str, float], Parity]:
    """Accuracy that int8 loses by task, in points, and the agreement of the forms."""
    chosen = _labelled_articles(corpora)
    ids = encoder.encode(chosen).ids
    before = compute_logits(
        [student],
        TokenStore.from_rows(ids, encoder.pad_id),
        np.arange(len(ids)),
        max_tokens=encoder.policy.max_tokens,
        device=torch.device("cpu"),
    )
    lost = accuracy_lost(before, classifier.logits(chosen), corpora.labels.encode(chosen))
    sample = ids[:: max(1, len(ids) // PARITY_ARTICLES)]
    return lost, check_parity(student, exact, int8, sample, pad_id=encoder.pad_id)


def _labelled_articles(corpora: Corpora) -> list[Article]:
    """Up to QUALITY_ARTICLES labelled articles a task: validation articles, then training articles."""
    chosen: list[Article] = []
    wanted = dict.fromkeys(corpora.labels.names, QUALITY_ARTICLES)
    for split in ("validation", "train"):
        rows = labelled_rows(corpora.targets(split), wanted)
        picked = set(rows.tolist())
        found = [a for i, a in enumerate(corpora.articles(split)) if i in picked]
        for task in wanted:
            wanted[task] -= min(wanted[task], sum(task in article.labels for article in found))
        chosen += found
    return chosen


def without_body(article: Article) -> Article:
    """An article as one sees it whose body is not known; one without headline stays as it is."""
    return replace(article, body="") if clean_text(article.headline) else article


def commit_id() -> str:
    """The commit of the code at hand; empty outside a git checkout."""
    result = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.strip() if result.returncode == 0 else ""
