"""The quick student: the frozen base with new heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from newsie.atomic import scratch_directory
from newsie.bundles.bundle import Bundle, Lineage, write_bundle
from newsie.data.articles import Article
from newsie.data.encoding import Encoder
from newsie.graph.heads import HeadWeights, write_heads
from newsie.graph.weights import read_weights
from newsie.labels import IGNORE, LabelSpace
from newsie.training.card import model_card
from newsie.training.retraining.hidden_states import States, read_states
from newsie.training.retraining.logistic_head import FittedHead, LinearFit, as_head, choose_linear

__all__ = ["QUICK_ARTICLES", "quick_student"]

QUICK_ARTICLES = 20_000
"""The maximum number of labelled articles, drawn at random, to fit heads on. More articles change little and
take minutes."""


def quick_student(
    base: Bundle,
    articles: Sequence[Article],
    labels: LabelSpace,
    tasks: Sequence[str],
    directory: Path,
    *,
    name: str,
    lineage: Lineage,
    seed: int = 0,
    say: Callable[[str], None] = lambda _text: None,
) -> Bundle:
    """Fit heads for tasks on the states of the frozen base, and write the bundle.

    A task of the base keeps its inner layer, and its new outer layer is regularised towards the old one.
    Labels without articles are kept, see `fit_linear`. The predictions of all other tasks stay bit-identical.

    Args:
        base: the student.
        articles: the articles to learn from.
        labels: the base's label space, extended.
        tasks: the tasks that get a head.
        directory: folder of the new bundle.
        name: the model's name.
        lineage: the origin of the model.
        seed: seed of the folds, and of the sample if there are many articles.
        say: called with lines of progress.

    Raises:
        BundleError: the base's graph is not one that this version of Newsie exports.
    """
    articles = _choose(articles, tasks, seed)
    manifest = base.manifest
    encoder = Encoder.from_file(base.tokenizer_path, manifest.encoding)
    known = [task for task in tasks if task in manifest.label_space.names]
    with scratch_directory(directory) as scratch:
        say(f"heads: the student reads {len(articles):,} articles")
        ids = encoder.encode(articles).ids
        states = read_states(base, ids, scratch, tasks=known, pad_id=encoder.pad_id)
        gold, weights = labels.encode(articles), read_weights(base)
        fitted = {
            task: _fit(task, states, gold[task], len(labels[task].labels), weights, seed, say)
            for task in tasks
        }
        model = scratch / "model.onnx"
        write_heads(base, {task: head for task, (head, _) in fitted.items()}, labels, model)

        def write(target: Path, metrics: Mapping[str, Any], card: str) -> Bundle:
            return write_bundle(
                target,
                name=name,
                label_space=labels,
                encoding=manifest.encoding,
                calibration={
                    **manifest.calibration,
                    **{task: found.temperature for task, (_, found) in fitted.items()},
                },
                model=model,
                tokenizer=base.tokenizer_path.read_text(encoding="utf-8"),
                card=card,
                metrics=metrics,
                lineage=lineage,
            )

        metrics = {"heads": {task: _describe(found) for task, (_, found) in fitted.items()}}
        draft = write(scratch / "draft", metrics, "")
        return write(directory, metrics, model_card(draft.manifest))


def _choose(articles: Sequence[Article], tasks: Sequence[str], seed: int) -> list[Article]:
    """Return the articles with a label in one of the tasks, or a sample of them if there are many."""
    found = [article for article in articles if any(task in article.labels for task in tasks)]
    if len(found) <= QUICK_ARTICLES:
        return found
    rows = np.random.default_rng(seed).permutation(len(found))[:QUICK_ARTICLES]
    return [found[row] for row in sorted(rows)]


def _fit(
    task: str,
    states: States,
    gold: NDArray[np.int64],
    classes: int,
    weights: Mapping[str, NDArray[np.float32]],
    seed: int,
    say: Callable[[str], None],
) -> tuple[HeadWeights, FittedHead]:
    rows = gold != IGNORE
    say(f"heads: fitting {task}, {classes:,} labels, {int(rows.sum()):,} articles")

    def progress(text: str) -> None:
        say(f"  {text}")

    if task not in states.inner:
        found = choose_linear(states.first[rows], gold[rows], classes, seed=seed, progress=progress)
        return as_head(found.fit), found
    inner, inner_bias, outer, outer_bias = (
        weights[f"heads.{task}.{layer}.{kind}"]
        for layer in ("pre_classifier", "classifier")
        for kind in ("weight", "bias")
    )
    prior = LinearFit(outer.astype(np.float64), outer_bias.astype(np.float64))
    found = choose_linear(
        states.inner[task][rows], gold[rows], classes, prior=prior, seed=seed, progress=progress
    )
    fit = found.fit
    head = HeadWeights(
        inner, inner_bias, fit.weights.astype(np.float32), fit.bias.astype(np.float32)
    )
    return head, found


def _describe(found: FittedHead) -> dict[str, float]:
    """Return the penalty of a head and its scores on left-out articles."""
    return {
        "penalty": found.penalty,
        "left_out_accuracy": found.accuracy,
        "left_out_negative_log_likelihood": found.loss,
    }
