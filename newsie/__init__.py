"""Newsie: a fast multi-task news classifier, distilled.

    from newsie import Article, Classifier

    classifier = Classifier.from_pretrained()
    [prediction] = classifier.classify([Article("Striker signs for city rivals")])
    prediction.label("section"), prediction.scores

The names below are public. Each is imported on first use, so that `import newsie` costs nothing. Training is
in `newsie.training`, which needs `pip install '.[train]'`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from newsie.version import __version__

if TYPE_CHECKING:
    from newsie.bundles.bundle import (
        Bundle,
        Lineage,
        Manifest,
        copy_bundle,
        read_bundle,
        write_bundle,
    )
    from newsie.data.articles import Article
    from newsie.data.readers import ArticleReader, read_articles
    from newsie.errors import (
        BundleError,
        FingerprintError,
        InputError,
        LabelError,
        MissingExtraError,
        NewsieError,
        QualityGateError,
        ReadError,
        RecipeError,
        TrainingError,
    )
    from newsie.inference.classifier import Classifier
    from newsie.inference.explanation import Explanation, Word
    from newsie.inference.prediction import Prediction
    from newsie.labels import LabelRule, LabelSpace, Task
    from newsie.metrics.evaluation import Evaluation, TaskMetrics, evaluate, evaluate_predictions

__all__ = [
    "Article",
    "ArticleReader",
    "Bundle",
    "BundleError",
    "Classifier",
    "Evaluation",
    "Explanation",
    "FingerprintError",
    "InputError",
    "LabelError",
    "LabelRule",
    "LabelSpace",
    "Lineage",
    "Manifest",
    "MissingExtraError",
    "NewsieError",
    "Prediction",
    "QualityGateError",
    "ReadError",
    "RecipeError",
    "Task",
    "TaskMetrics",
    "TrainingError",
    "Word",
    "__version__",
    "copy_bundle",
    "evaluate",
    "evaluate_predictions",
    "read_articles",
    "read_bundle",
    "write_bundle",
]

_MODULES = {
    "newsie.bundles.bundle": "Bundle Lineage Manifest copy_bundle read_bundle write_bundle",
    "newsie.inference.classifier": "Classifier",
    "newsie.data.articles": "Article",
    "newsie.data.readers": "ArticleReader read_articles",
    "newsie.errors": "BundleError FingerprintError InputError LabelError MissingExtraError "
    "NewsieError QualityGateError ReadError RecipeError TrainingError",
    "newsie.metrics.evaluation": "Evaluation TaskMetrics evaluate evaluate_predictions",
    "newsie.inference.explanation": "Explanation Word",
    "newsie.labels": "LabelRule LabelSpace Task",
    "newsie.inference.prediction": "Prediction",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'newsie' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
