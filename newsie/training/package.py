"""Packaging of a student as a bundle: export, int8, calibration, parity and quality gate."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from newsie.atomic import scratch_directory
from newsie.bundles.bundle import Bundle, Lineage, read_bundle, write_bundle
from newsie.data.articles import Article
from newsie.data.cleaning import clean_text
from newsie.data.encoding import Encoder
from newsie.graph.quantize import quantize_int8
from newsie.inference.classifier import Classifier
from newsie.training.batches import TokenStore
from newsie.training.calibration import accuracy_lost, calibrate, check_quality, labelled_rows
from newsie.training.card import model_card
from newsie.training.corpora import Corpora
from newsie.training.export import Parity, check_parity, export_onnx
from newsie.training.model import MultiTaskModel
from newsie.training.soft_labels import compute_logits
from newsie.training.store import Workspace, stage

__all__ = ["commit_id", "make_bundle", "package", "without_body"]

QUALITY_ARTICLES = 4_000
"""The number of labelled articles per task on which int8 is compared with float. If the two agree on 98 per
cent of the labels, this determines the difference in accuracy to about 0.2 points."""

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
    """Export a student, check the quality of its int8 form, calibrate it, and write the bundle.

    Args:
        student: the float student, on the CPU.
        corpora: its articles. Calibration uses the validation articles; the comparison uses these and, if
            they are few, training articles.
        encoder: its tokenizer and its encoding policy at inference.
        directory: the folder of the bundle.
        name: the model's name.
        max_int8_loss: the accuracy that int8 may lose on any task, in points.
        lineage: the origin of the student.
        calibration: temperatures for tasks without labelled validation articles; the default is 1.
        max_int8_difference: the largest mean difference of int8's probabilities.

    Raises:
        QualityGateError: int8 loses too much accuracy, or the graph does not compute what the student does.
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
    """Package a student as a bundle; see `make_bundle`.

    `version` is an input because the graph depends on the version of Newsie. The commit is only recorded.
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
    """Return the accuracy that int8 loses by task, in points, and the agreement of the graphs."""
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
    """Return up to QUALITY_ARTICLES labelled articles per task, validation articles first."""
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
    """Return an article without its body. An article without a headline is returned unchanged."""
    return replace(article, body="") if clean_text(article.headline) else article


def commit_id() -> str:
    """Return the commit of the running code; empty outside a git checkout."""
    result = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.strip() if result.returncode == 0 else ""
