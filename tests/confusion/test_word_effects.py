from __future__ import annotations

import json

import numpy as np

from newsie.confusion.analysis import analyse
from newsie.confusion.report import Report, shown_rows
from newsie.confusion.word_effects import MAX_EXPLAINED, articles_to_explain, explanation_json
from newsie.data.articles import Article
from newsie.inference.classifier import Classifier


def made() -> Report:
    random = np.random.default_rng(0)
    gold = random.integers(0, 3, 300)
    p = random.dirichlet([1, 1, 1], 300)
    found = analyse(("business", "science", "sports"), p, gold)
    texts = {row: Article(f"goal {row}") for row in shown_rows(found)}
    return Report("x", {"name": "", "fingerprint": ""}, None, 300, {"section": found}, (), texts)


def test_articles_that_are_shown_are_explained_with_the_labels_they_are_between() -> None:
    report = made()
    rows = articles_to_explain(report)["section"]
    assert len(rows) == MAX_EXPLAINED
    assert set(rows) <= set(report.texts)
    first = report.analyses["section"].pairs[0]
    for article in first.border:
        assert set(first.labels) <= rows[article.row]


def test_their_number_is_bounded() -> None:
    rows = articles_to_explain(made(), 5)["section"]
    assert len(rows) == 5


def test_an_explanation_as_the_page_reads_it(tiny_classifier: Classifier) -> None:
    found = tiny_classifier.explain(Article("goal cup", "the city"), tasks=["section"])
    content = json.loads(json.dumps(explanation_json(found, "section", {"sports", "business"})))
    assert content["words"] == [
        ["headline", 0, 4],
        ["headline", 5, 8],
        ["body", 0, 3],
        ["body", 4, 8],
    ]
    assert list(content["effects"]) == ["business", "sports"]
    for label, effects in content["effects"].items():
        np.testing.assert_allclose(effects, found.effects("section", label), atol=1e-4)
