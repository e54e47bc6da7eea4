"""The evaluated systems with one interface: teacher, student, served student and baseline."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from newsie.atomic import new_file
from newsie.data.articles import Article
from newsie.data.encoding import VIEWS, Encoder, EncodingPolicy, View, view_text
from newsie.inference.classifier import Classifier
from newsie.metrics.baseline import Baseline, BaselineConfig, fit_baseline
from newsie.metrics.evaluation import softmax
from newsie.training.batches import TokenStore
from newsie.training.calibration import calibrate
from newsie.training.corpora import Corpora
from newsie.training.metrics_report import BASELINE, SERVED, STUDENT, TEACHER
from newsie.training.model import MultiTaskModel
from newsie.training.package import without_body
from newsie.training.soft_labels import compute_logits
from newsie.training.tokens import open_encoder
from newsie.training.train import Trained

__all__ = [
    "Answers",
    "System",
    "baseline_system",
    "calibrated",
    "model_system",
    "open_systems",
    "served_system",
]

Answers = dict[str, NDArray[np.float32]]
"""The log probabilities by task, (N, C), up to a constant for each article."""

LEAST_PROBABILITY = 1e-6
"""The lower bound of probabilities, so that labels that the baseline never saw have a finite likelihood."""


@dataclass(frozen=True)
class System:
    """A system that classifies articles.

    Attributes:
        name: one of `figures.SYSTEMS`.
        fingerprint: the fingerprint of everything that determines its predictions.
        answer: a function from articles and a view to predictions before calibration.
        directory: the folder of stored predictions; None stores nothing.
        temperatures: the calibration temperature by task; the default is 1.
    """

    name: str
    fingerprint: str
    answer: Callable[[Sequence[Article], View], Answers]
    directory: Path | None = None
    temperatures: Mapping[str, float] = field(default_factory=dict)

    def answers(self, articles: Sequence[Article], view: View) -> Answers:
        """Return the predictions before calibration, stored ones if the same were computed before."""
        if self.directory is None:
            return self.answer(articles, view)
        texts = [[article.headline, article.body] for article in articles]
        path = self.directory / f"{_digest(self.fingerprint, view, texts)}.safetensors"
        if not path.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            found = self.answer(articles, view)
            with new_file(path) as aside:
                save_file(found, aside, {"system": self.name, "view": view})
        return dict(load_file(path))

    def probabilities(self, articles: Sequence[Article], view: View) -> Answers:
        """Return the calibrated probabilities by task, (N, C), whose rows sum to 1."""
        return {
            task: softmax(values / self.temperatures.get(task, 1.0)).astype(np.float32)
            for task, values in self.answers(articles, view).items()
        }


def open_systems(trained: Trained) -> list[System]:
    """Return all systems of a run, calibrated on its validation articles.

    Teacher and student read as many tokens as the bundle does, so that these systems see the same text.
    """
    corpora, directory = trained.corpora, trained.store.directory / "answers"
    recipe, device = trained.recipe, trained.store.accelerator.device
    policy = EncodingPolicy(recipe.student.max_tokens, corpora.site_suffixes)
    teacher = open_encoder(recipe.teacher.encoder, policy)
    student = trained.tokenizer.reads(policy.max_tokens)
    served = served_system(Classifier(trained.bundle), directory)
    others = [
        model_system(
            TEACHER, [fitted.model for fitted in trained.teachers], teacher, device, directory
        ),
        model_system(STUDENT, [trained.student.model], student, device, directory),
        baseline_system(corpora, directory),
    ]
    validation = list(corpora.articles("validation"))
    labels = corpora.targets("validation")
    first, second, last = (calibrated(system, validation, labels) for system in others)
    return [first, second, served, last]


def calibrated(
    system: System, articles: Sequence[Article], labels: Mapping[str, NDArray[np.int64]]
) -> System:
    """Return the system with temperatures fitted on articles in both views, as the bundle's are.

    Args:
        system: the system.
        articles: N articles that the system was not trained on.
        labels: (N,) class indices by task; IGNORE where an article has no label.
    """
    views = [system.answers(articles, view) for view in VIEWS]
    both = {task: np.concatenate([answers[task] for answers in views]) for task in views[0]}
    twice = {task: np.tile(column, len(VIEWS)) for task, column in labels.items()}
    return replace(system, temperatures=calibrate(both, twice))


def model_system(
    name: str,
    models: Sequence[MultiTaskModel],
    encoder: Encoder,
    device: torch.device,
    directory: Path | None = None,
) -> System:
    """Return the system of PyTorch models; several are averaged as probabilities."""

    def answer(articles: Sequence[Article], view: View) -> Answers:
        encoded = encoder.encode(articles, view)
        return compute_logits(
            [model.to(device) for model in models],
            TokenStore.from_rows(encoded.ids, encoder.pad_id),
            np.arange(len(articles)),
            max_tokens=encoder.policy.max_tokens,
            device=device,
        )

    prints = [model.fingerprint() for model in models]
    fingerprint = _digest(prints, encoder.tokenizer.to_str(), asdict(encoder.policy))
    return System(name, fingerprint, answer, directory)


def served_system(classifier: Classifier, directory: Path | None = None) -> System:
    """Return the system of a bundle's classifier. Its predictions include the bundle's calibration."""

    def answer(articles: Sequence[Article], view: View) -> Answers:
        shown = articles if view == "full" else [without_body(article) for article in articles]
        found = [prediction for _, prediction in classifier.classify_stream(shown)]
        return {
            task: _log(np.array([prediction.probabilities[task] for prediction in found]))
            for task in classifier.tasks
        }

    return System(SERVED, classifier.bundle.fingerprint, answer, directory)


def baseline_system(
    corpora: Corpora, directory: Path | None = None, config: BaselineConfig | None = None
) -> System:
    """Return the system of TF-IDF and logistic regression, fitted separately for each view.

    A baseline that is fitted on headlines is stronger on headlines than one that is fitted on whole
    articles.
    """
    config = config or BaselineConfig()
    suffixes = frozenset(corpora.site_suffixes)
    classes = {task.name: len(task.labels) for task in corpora.labels.tasks}
    fitted: dict[View, Baseline] = {}

    def texts(articles: Iterable[Article], view: View) -> list[str]:
        return [view_text(article, view, suffixes) for article in articles]

    def answer(articles: Sequence[Article], view: View) -> Answers:
        if view not in fitted:
            training = texts(corpora.articles("train"), view)
            fitted[view] = fit_baseline(training, corpora.targets("train"), classes, config)
        found = fitted[view].probabilities(texts(articles, view))
        return {task: _log(values) for task, values in found.items()}

    return System(BASELINE, _digest(corpora.directory.name, asdict(config)), answer, directory)


def _log(probabilities: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(np.log(np.maximum(probabilities, LEAST_PROBABILITY)), np.float32)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
