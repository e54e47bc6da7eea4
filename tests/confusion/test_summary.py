from __future__ import annotations

import numpy as np

from newsie.confusion.analysis import Analysis, analyse
from newsie.confusion.comparison import compare
from newsie.confusion.summary import summarise

LABELS = ("news", "sport", "life")


def lines(*rows: tuple[int, str, tuple[float, float, float]], by: str = "") -> Analysis:
    p = np.repeat([row[2] for row in rows], [row[0] for row in rows], axis=0)
    gold = np.repeat([row[1] for row in rows], [row[0] for row in rows])
    groups = [f"{by} {i % 2}" for i in range(len(p))] if by else None
    return analyse(LABELS, p, gold.astype(object), groups=groups)


ROWS = (
    (90, "news", (0.9, 0.05, 0.05)),
    (10, "news", (0.4, 0.1, 0.5)),
    (100, "sport", (0.01, 0.98, 0.01)),
    (80, "life", (0.05, 0.05, 0.9)),
    (20, "life", (0.6, 0.1, 0.3)),
)


def test_sentences_by_hand() -> None:
    found = summarise({"section": lines(*ROWS)})
    assert found[0] == (
        "the most frequent mistake is life read as news: 20 articles, 20 % [13, 29] of life; the "
        "reverse happens to 10 %."
    )
    assert found[1].startswith(
        "both ways together, news and life are confused most, in 30 articles; in 30 of them the "
        "model sees both labels. "
    )
    assert found[2] == (
        "answers of at least 90 % confidence are right in 100 % of cases; they are 90 % of the "
        "articles."
    )
    assert len(found) <= 5


def test_the_task_with_most_mistakes_comes_first_and_is_named() -> None:
    better = lines(*ROWS[:4])
    found = summarise({"better": better, "worse": lines(*ROWS)})
    assert found[0].startswith("worse: ")
    assert any(sentence.startswith("better: the most frequent mistake") for sentence in found)


def test_comparisons_are_told() -> None:
    one, two = lines(*ROWS).answers, lines(*ROWS[:4], (20, "life", (0.1, 0.6, 0.3))).answers
    comparison = compare(one, two, names=("old", "new"))
    found = summarise({"section": lines(*ROWS)}, [comparison])
    assert found[2] == (
        "new files 18 % [12, 26] of what old calls news under sport (20 of 110 articles); the two "
        "agree on 93 % of all articles."
    )
    bundles = compare(one, two, names=("old", "new"), kind="bundles")
    found = summarise({"section": lines(*ROWS)}, [bundles])
    assert found[2].startswith("old is right in 90.0 % of cases and new in 90.0 %: a difference of")
    assert "not beyond chance" in found[2]
    same = compare(one, one, names=("old", "old"))
    assert (
        summarise({"s": lines(*ROWS)}, [same])[2]
        == "old and old give the same label to every article."
    )


def test_drift_is_told_with_both_shares() -> None:
    rows = [row for row in ROWS for _ in range(2)]
    p = np.repeat([row[2] for row in rows], [row[0] for row in rows], axis=0)
    gold = np.repeat([row[1] for row in rows], [row[0] for row in rows])
    wrong = (gold == "life") & (p[:, 0] > 0.5)
    months = np.where(wrong, "2024-02", np.where(np.arange(len(p)) % 2, "2024-01", "2024-02"))
    analysis = analyse(LABELS, p, gold.astype(object), groups=months.tolist(), by="month")
    (drift,) = (s for s in summarise({"section": analysis}) if "of all others" in s)
    assert drift == (
        "33 % [26, 42] of the life articles of 2024-02 are read as news, and 0 % of all others."
    )


def test_all_right() -> None:
    found = summarise({"section": lines(*ROWS[:1], *ROWS[2:4])})
    assert found[0] == "all 270 articles got their gold label."


def test_without_gold_labels_there_may_be_little_to_say() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(3), 50)
    assert summarise({"section": analyse(LABELS, p)}) == ()
