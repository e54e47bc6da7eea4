"""Retraining in one call, from a newsroom's file to a new student compared with the old one."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from newsie.atomic import check_writable
from newsie.bundles.bundle import Bundle, copy_bundle, read_bundle
from newsie.bundles.registry import CURRENT, ROLLED_BACK, Shelf, follow, use_command
from newsie.data.articles import Article
from newsie.data.encoding import view_text
from newsie.errors import BundleError, InputError, TrainingError
from newsie.inference.classifier import Classifier
from newsie.labels import IGNORE
from newsie.metrics.baseline import BaselineConfig, fit_baseline
from newsie.training.card import model_card
from newsie.training.retraining.dataset import Sources, gather_material
from newsie.training.retraining.promotion import Limits, Promotion, compare_students
from newsie.training.retraining.stages import (
    Depth,
    Plan,
    Retraining,
    choose_depth,
    fit_quick,
    open_retraining,
    retrain_student,
)
from newsie.training.store import locked

__all__ = ["Retrained", "retrain"]


@dataclass(frozen=True)
class Retrained:
    """The result of a retraining.

    Attributes:
        bundle: the new student; its metrics hold the promotion.
        promotion: its comparison with the old student.
        depth: the depth of the training.
    """

    bundle: Bundle
    promotion: Promotion
    depth: Depth


def retrain(
    sources: Sources,
    output: Path,
    *,
    base: Bundle,
    depth: Depth | None = None,
    encoder: str = "minilm",
    runs: Path = Path("runs"),
    limits: Limits | None = None,
    force: bool = False,
    seed: int = 0,
) -> Retrained:
    """Retrain a student on a newsroom's file, and promote it if it is good enough.

    A run that was killed resumes if it is called again with the same arguments, and ends with the same
    weights. `output` is never left half-written.

    Args:
        sources: the files.
        output: folder of the new bundle. If `current` in its parent folder is the base, and the new student
            is proven, `current` moves on to it. If the output is the base itself, because a finished
            retraining was started again, the base is its parent.
        base: the student that is retrained.
        depth: the depth of the training; None chooses by the number of labelled articles.
        encoder: the teacher's encoder with depth "full"; see `load_encoder`.
        runs: folder for intermediate results; those of this retraining go to `runs/NAME`.
        limits: the limits for promotion; None means the defaults.
        force: write the bundle even if it is not promoted.
        seed: seed of the splits, and of everything drawn.

    Raises:
        QualityGateError: the new student is not promoted; it stays in `runs`.
        ReadError, LabelError, InputError, BundleError: the files or the base cannot be used.
        TrainingError: training fails, the disk is full, or another process is at work in the folder.
    """
    name = _name(output)
    base = _origin(base, output)
    directory = runs / name
    check_writable(directory / "material")
    with _full_disk_told(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with locked(directory):
            material = gather_material(sources, base, directory, say=_say)
            depth = depth or choose_depth(material.labelled)
            _say(f"depth: {depth} ({material.labelled:,} labelled articles)")
            if depth == "quick" and sources.unlabelled:
                _say("  --unlabelled: not learnt from, as only heads are fitted; --student does")
            plan = Plan(name, depth, encoder, seed)
            run = open_retraining(material, base, plan, runs=runs)
            quick = open_retraining(material, base, replace(plan, depth="quick"), runs=runs)
            _say(run.corpora.summary)
            _check_output(output, run, quick)
            candidate = retrain_student(run)
            if depth != "quick" and _quick_is_better(run, candidate):
                run, depth = quick, "quick"
                candidate = retrain_student(run)
            _say("comparing the students, and TF-IDF, on the articles that were held out")
            promotion = judge(run, candidate, limits or Limits())
            if not force:
                promotion.check()
            metrics = {**candidate.manifest.metrics, "promotion": promotion.to_json()}
            card = model_card(candidate.manifest, promotion=promotion.table())
            new = not output.exists()
            bundle = copy_bundle(candidate.path, output, card=card, metrics=metrics)
            if not new:
                _say(f"this was done already: {output} is from an earlier run, and stays as it is")
            _move_current(bundle, promotion, new=new)
    return Retrained(bundle, promotion, depth)


def _quick_is_better(run: Retraining, student: Bundle) -> bool:
    """Return True if the quick student is more accurate than the student trained further from it.

    Both are measured on the validation articles, which neither has learnt from. If so, this is reported.
    """
    articles = list(run.corpora.articles("validation"))
    gold = run.corpora.labels.encode(articles)
    right = [
        np.mean(
            [
                (probabilities[task].argmax(axis=1) == gold[task])[gold[task] != IGNORE].mean()
                for task in run.taught
                if (gold[task] != IGNORE).any()
            ]
        )
        for probabilities in (
            _probabilities(bundle, articles) for bundle in (student, fit_quick(run))
        )
    ]
    if not right[1] > right[0]:
        return False
    _say(
        f"--{run.plan.depth} ends below --quick: {right[0]:.1%} right and {right[1]:.1%} on "
        f"{len(articles):,} articles held out to choose on; the quick student is kept"
    )
    return True


def _move_current(bundle: Bundle, promotion: Promotion, *, new: bool) -> None:
    """Make a proven student the current one in its parent's place, and report what was done.

    `current` does not move to a bundle that already existed, since it may have been rolled back from it.
    """
    directory, name = bundle.path.parent, bundle.path.name
    link = directory / CURRENT
    if promotion.proven and new and follow(bundle):
        _say(f"{link} is {name} now")
    elif link.is_symlink() and link.resolve() != bundle.path.resolve():
        why = "it was not retrained from that one"
        if promotion.failures:
            why = "it was not promoted"
        elif not promotion.proven:
            why = "it is not shown to be better"
        elif not new:
            why = "it was there before"
        elif (directory / ROLLED_BACK).exists():
            why = "it was rolled back to that one"
        _say(
            f"{link} stays {link.readlink()}, not {name}: {why}. To change that: "
            f"{use_command(directory, name)}"
        )


def judge(run: Retraining, candidate: Bundle, limits: Limits) -> Promotion:
    """Compare the base and a candidate on the held-out articles."""
    labels = run.corpora.labels
    test = list(run.corpora.articles("test"))
    gold, taught = labels.encode(test), run.taught
    old, new = (_probabilities(bundle, test) for bundle in (run.base, candidate))
    return compare_students(
        old,
        new,
        gold,
        labels,
        taught=taught,
        baseline=_baseline(run, test),
        limits=limits,
        silent=_silent(run, candidate, new),
        absent={task: absent for task, absent in run.absent.items() if task in taught},
    )


def _silent(
    run: Retraining, candidate: Bundle, test: Mapping[str, NDArray[np.float64]]
) -> dict[str, list[str]]:
    """Return taught task -> labels that the candidate never predicts.

    It predicts them for no test article and for none of the articles that they were learnt from.
    """
    labels = run.corpora.labels
    found = {}
    for task in run.taught:
        rare = set(range(len(labels[task].labels))) - set(test[task].argmax(axis=1).tolist())
        names = {labels[task].labels[index] for index in rare}
        learnt = [article for article in run.learnt if article.labels.get(task) in names]
        if learnt:
            gold = labels.encode(learnt)[task]
            given = _probabilities(candidate, learnt)[task].argmax(axis=1)
            silent = sorted(set(gold.tolist()) - set(given.tolist()))
            found[task] = [labels[task].labels[index] for index in silent]
    return found


def _probabilities(bundle: Bundle, articles: Sequence[Article]) -> dict[str, NDArray[np.float64]]:
    classifier = Classifier(bundle)
    return classifier.calibrate(classifier.logits(articles))


def _baseline(run: Retraining, test: Sequence[Article]) -> dict[str, NDArray[np.float32]]:
    """Return the probabilities of TF-IDF and logistic regression, fitted on the same articles."""
    suffixes = frozenset(run.corpora.site_suffixes)
    learnt, labels = run.learnt, run.corpora.labels
    gold = labels.encode(learnt)
    fitted = fit_baseline(
        [view_text(article, "full", suffixes) for article in learnt],
        {task: gold[task] for task in run.taught},
        {task: len(labels[task].labels) for task in run.taught},
        # With few articles every word counts; a word that all of them have slows the solver down.
        BaselineConfig(min_articles=1, max_iterations=5_000),
    )
    return fitted.probabilities([view_text(article, "full", suffixes) for article in test])


def _name(output: Path) -> str:
    """Return the student's name, which is that of its folder."""
    name = output.absolute().name
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", name):
        raise InputError(
            f"the bundle cannot be called {name!r}: a name is made of up to 100 letters (A to Z), "
            "digits, '.', '_' and '-', no '.' first"
        )
    if output.exists() and not (output / "newsie.json").is_file():
        raise BundleError(f"{output} is there and is not a bundle; choose another name")
    check_writable(output)
    return name


def _origin(base: Bundle, output: Path) -> Bundle:
    """Return the base, or its parent if `current` has moved on to the output and so made it the base."""
    if base.path.resolve() != output.resolve():
        return base
    parent = Shelf.of(output.absolute().parent).parent(base)
    if parent is None:
        raise InputError(
            f"{output} is the base itself, and what it was retrained from is not there; choose another "
            "name for the new bundle"
        )
    _say(f"{output} is there already, retrained from {parent.path}")
    return parent


def _check_output(output: Path, *runs: Retraining) -> None:
    """Raise BundleError if the output holds a bundle of another run, which may be needed to roll back."""
    if not output.exists():
        return
    existing = read_bundle(output).manifest.lineage
    possible = [run.lineage() for run in runs]
    if not any(
        (existing.parent, existing.data, existing.recipe) == (made.parent, made.data, made.recipe)
        for made in possible
    ):
        raise BundleError(
            f"{output} holds another bundle, which is kept to roll back to; choose another name, or "
            "remove it first"
        )


@contextmanager
def _full_disk_told(directory: Path) -> Iterator[None]:
    """Turn any error about a full disk into a TrainingError that says what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or f"code: {errno.ENOSPC}" in str(
            error
        )
        if not full:
            raise
        raise TrainingError(
            f"the disk is full ({error}); free some space, or choose another folder with --runs, and "
            f"start again: what is done is kept in {directory}"
        ) from error


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
