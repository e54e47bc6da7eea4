"""The model card: a bundle's README.md, with the metadata header for the Hugging Face hub."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from newsie.bundles.bundle import Bundle, Manifest, copy_bundle
from newsie.printable import one_line
from newsie.training.metrics_report import SERVED, TEACHER, Figures, Score

__all__ = ["PLACE", "model_card", "recipe_corpora", "transformers_card", "write_card"]

WATTS_A_CORE = 15
"""The power assumed for the energy estimate; it is not measured."""

HUB_NAMES = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}
"""The hub ids of encoders that recipes refer to by a short name."""

_NOT_STATED, _UNKNOWN = "not stated in the recipe", "unknown"

PLACE = '"DIRECTORY")  # of this file'
"""The placeholder for the bundle's location in a card's example. Uploading puts in the repository."""

TERMS = """\
The bundle holds weights and figures, none of the articles. Its own licence is Apache-2.0, which is what
we can give; it does not widen the terms of the corpora above. Where one of them allows research or
non-commercial use only, whether a model that learnt from it may be used commercially is not settled:
if that matters to you, treat this model as a research model, and train one on articles that you have the
rights to (`newsie train`)."""


def model_card(manifest: Manifest, figures: Figures | None = None, *, promotion: str = "") -> str:
    """Return the text of a bundle's README.md.

    Args:
        manifest: the bundle's manifest. The recipe in its lineage describes the training data.
        figures: the measured figures; None leaves them out.
        promotion: the table that compares a retrained student with its parent; empty leaves it out.
    """
    recipe = manifest.lineage.recipe
    parts = [
        _header(manifest, figures),
        f"# {manifest.name}",
        _summary(manifest),
        "## How to use it",
        _usage(manifest),
        "## Tasks and labels",
        _tasks(manifest),
    ]
    if figures is not None:
        parts += ["## Figures", _provenance(figures), figures.tables("###")]
        parts += [f"{note}" for note in figures.notes]
    if promotion:
        parts += [
            "## Beside the student that it was retrained from",
            f"Both on the same articles, which the new one did not learn from (parent: "
            f"{manifest.lineage.parent}).",
            f"```\n{promotion}\n```",
        ]
    parts += ["## What it learnt from", _corpora(recipe), TERMS]
    parts += ["## Limits", _limits(manifest)]
    if figures is not None:
        parts += ["## Time and energy", _cost(figures)]
    return "\n\n".join(parts) + "\n"


def transformers_card(manifest: Manifest, task: str) -> str:
    """Return the README.md of a folder that holds one task of a bundle for plain transformers."""
    labels = ", ".join(manifest.label_space[task].labels)
    return (
        "\n\n".join(
            [
                _header(manifest, None, "transformers"),
                f"# {manifest.name}: {task}",
                f"One task of the news classifier {manifest.name} (bundle {manifest.fingerprint}) for plain "
                f"transformers, without any other code: {task}. Labels: {labels}.",
                "## How to use it",
                _transformers_usage(manifest),
                "## What it learnt from",
                _corpora(manifest.lineage.recipe),
                TERMS,
                "## Limits",
                _limits(manifest),
            ]
        )
        + "\n"
    )


def _transformers_usage(manifest: Manifest) -> str:
    tokens = manifest.encoding.max_tokens
    return (
        "```python\n"
        "from transformers import pipeline\n\n"
        'classify = pipeline("text-classification", "DIRECTORY", truncation=True)  # of this file\n'
        'headline, body = "A headline", "and a body"\n'
        'print(classify(f"{headline}\\n{body}", top_k=3))\n'
        "```\n\n"
        "**Headline and body are one text: the headline, a line break, the body**; where only one of the "
        f"two is known, that one alone. `truncation=True` cuts texts after {tokens} tokens, which is what "
        "the model was trained and calibrated for; without it, long texts are an error or answered worse.\n\n"
        "Scores are calibrated probabilities: the calibration temperature is part of the weights. They are "
        "those of the float32 student; the int8 bundle that newsie serves rounds, and differs in some "
        "cases by a few hundredths. newsie also takes markup, control characters and the outlet's name at "
        "the end of a headline off before it asks the model: give this folder plain text."
    )


def write_card(bundle: Bundle, figures: Figures) -> Bundle:
    """Rewrite a bundle in place, with a card and metrics that include the figures.

    Weights, labels, calibration and fingerprint do not change.
    """
    manifest = bundle.manifest
    scores = {
        f"{score.corpus}/{score.task}/{score.view}": score.metrics.to_json()
        for score in figures.scores
        if score.system == SERVED
    }
    return copy_bundle(
        bundle.path,
        bundle.path,
        card=model_card(manifest, figures),
        metrics={**manifest.metrics, "test": scores},
    )


def _header(manifest: Manifest, figures: Figures | None, library: str = "newsie") -> str:
    """Return the YAML header for the hub. Values are written as JSON, which is valid YAML."""
    recipe = manifest.lineage.recipe
    content: dict[str, Any] = {
        "language": "en",
        "license": "apache-2.0",
        "library_name": library,
        "pipeline_tag": "text-classification",
        "tags": ["news", "onnx", "distillation", "multi-task"],
    }
    if library == "transformers":
        content["tags"] = ["news", "distillation"]
    encoder = _part(recipe, "teacher").get("encoder")
    if (
        isinstance(encoder, str) and encoder and "retrained" not in recipe
    ):  # a retrained student starts from a bundle, not from a model on the hub
        content["base_model"] = HUB_NAMES.get(encoder, encoder)
    content["datasets"] = [corpus["name"] for corpus in recipe_corpora(recipe)]
    content["metrics"] = ["accuracy", "f1"]
    lines = [f"{key}: {_json(value)}" for key, value in content.items()]
    if figures is not None:
        # Whole articles are left out, because their labels are our own mapping.
        results = [
            _result(score)
            for score in figures.scores
            if score.system == SERVED and score.corpus != figures.full_text
        ]
        lines += ["model-index:", f"- name: {_json(manifest.name)}", "  results:"]
        lines += [f"  - {_json(result)}" for result in results]
    return "\n".join(["---", *lines, "---"])


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _result(score: Score) -> dict[str, Any]:
    where = f"{score.corpus} ({score.task}, {score.view})"
    return {
        "task": {"type": "text-classification", "name": score.task},
        "dataset": {"type": score.corpus, "name": where, "split": "test"},
        "metrics": [
            {"type": "accuracy", "value": round(score.metrics.accuracy, 4)},
            {"type": "f1", "name": "macro-F1", "value": round(score.metrics.macro_f1, 4)},
        ],
    }


def _summary(manifest: Manifest) -> str:
    number = _part(manifest.lineage.recipe, "student").get("layers")
    layers = f" of {number} layers" if type(number) is int else ""
    return (
        f"A news classifier: a DistilBERT-style student{layers}, distilled from a larger teacher's "
        f"probabilities, in int8 ONNX. It answers {len(manifest.label_space.tasks)} tasks about an "
        "article's headline and body at once, on a CPU, without PyTorch."
    )


def _usage(manifest: Manifest) -> str:
    task = manifest.label_space.names[0]
    return (
        "```python\n"
        "from newsie import Article, Classifier\n\n"
        f"classifier = Classifier.from_pretrained({PLACE}\n"
        f'classifier.classify([Article("A headline", "and a body")])[0].label("{task}")\n'
        "```\n\n"
        f"The first {manifest.encoding.max_tokens} tokens of headline and body are read. Scores are "
        "calibrated probabilities."
    )


def _tasks(manifest: Manifest) -> str:
    rows = [
        (
            task.name,
            str(len(task.labels)),
            ", ".join(map(_literal, task.labels)),
            _origin_of_gold(task.rule),
        )
        for task in manifest.label_space.tasks
    ]
    return _table(("task", "labels", "which", "gold label"), rows)


def _origin_of_gold(rule: Any) -> str:
    if rule is None:
        return ""
    conditions = ", ".join(
        f"{column} is {value if isinstance(value, str) else ' or '.join(value)}"
        for column, value in rule.where.items()
    )
    return f"column {rule.column}" + (f", where {conditions}" if conditions else "")


def _provenance(figures: Figures) -> str:
    found = figures.circumstances
    return (
        f"Measured on {found.date} with `{found.command}` ({found.processor}, {found.cores} cores), on "
        f"the test split of each corpus. {SERVED} is this model; the {TEACHER} is what it was distilled "
        "from; TF-IDF is logistic regression on words and pairs of words, fitted on the same articles "
        "for each view."
    )


def _corpora(recipe: Mapping[str, Any]) -> str:
    rows = [
        (
            corpus["name"],
            _text(corpus.get("origin"), _NOT_STATED),
            _text(corpus.get("terms"), _NOT_STATED),
            _text(corpus.get("use"), "training and measuring"),
        )
        for corpus in recipe_corpora(recipe)
    ]
    if whole := _part(recipe, "full_text"):
        origin, terms = (_text(whole.get(key), _NOT_STATED) for key in ("origin", "terms"))
        rows.append((_text(whole.get("name"), _UNKNOWN), origin, terms, "measuring only"))
    if not rows:
        return "The manifest of this bundle holds no recipe, so its corpora are not known."
    return _table(("corpus", "origin", "terms", "used for"), rows)


def _limits(manifest: Manifest) -> str:
    lines = [
        f"- {corpus['name']}: {corpus['limits']}"
        for corpus in recipe_corpora(manifest.lineage.recipe)
        if _text(corpus.get("limits"), "")
    ]
    lines += [
        "- Gold labels are what publishers filed an article under, not what experts would: much of what "
        "counts as an error is a disagreement between newsrooms.",
        "- It knows the outlets, countries and years of its corpora, in their language. News of other "
        "places and times, and topics that came up later, will be classified less well, and the "
        "calibration will be off.",
        "- Every article gets an answer to every task, also where none of the labels fits; look at the "
        "score.",
        "- It judges what a text is about, not whether it is true, good or fit to be shown to anyone.",
    ]
    return "\n".join(lines)


def _cost(figures: Figures) -> str:
    known = [s for s in figures.sizes if s.training_seconds is not None]
    if not known:
        return "Training time was not recorded."
    times = ", ".join(f"{s.system} {(s.training_seconds or 0) / 3600:.1f} h" for s in known)
    hours = sum(s.training_seconds or 0 for s in known) / 3600
    cores = figures.circumstances.cores
    energy = hours * cores * WATTS_A_CORE / 1000
    return (
        f"Training: {times}. Energy was not measured; {cores} cores at an assumed {WATTS_A_CORE} W each "
        f"make about {energy:.2f} kWh, without the encoder's own pretraining."
    )


def recipe_corpora(recipe: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the corpora of a bundle's recipe, each with a name.

    The recipe in a bundle is not validated, so a corpus without a usable name is called "unknown".
    """
    corpora = _part(recipe, "data").get("corpora")
    entries = [
        entry if isinstance(entry, Mapping) else {}
        for entry in (corpora if isinstance(corpora, list | tuple) else ())
    ]
    return [{**entry, "name": _text(entry.get("name"), _UNKNOWN)} for entry in entries]


def _part(recipe: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a section of a recipe; empty if it is missing or is not a table."""
    part = recipe.get(name)
    return part if isinstance(part, Mapping) else {}


def _text(value: object, default: str) -> str:
    return value if isinstance(value, str) and value else default


def _literal(text: str) -> str:
    """Return text escaped for Markdown, in one line."""
    return re.sub(r"([\\`*\[\]<>~#|]|(?<!\w)_|_(?!\w))", r"\\\1", one_line(text))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    """Return text with its pipes escaped, so that it fits into a table cell."""
    return re.sub(r"(?<!\\)\|", r"\\|", one_line(text))
