from __future__ import annotations

import numpy as np

from newsie.confusion.analysis import Analysis, analyse
from newsie.confusion.comparison import compare
from newsie.confusion.reliability import find_threshold, smallest_promise
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
        "to be right in 90 % of cases, answer from a confidence of 90 % on: these answers are right in "
        "100 % of cases (at least 97.8 %, with 95 % confidence), and 90 % of all."
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
    bundles = compare(one, two, names=("old", "new"), kind="models")
    found = summarise({"section": lines(*ROWS)}, [bundles])
    assert found[2].startswith("old is right in 90.0 % of cases and new in 90.0 %: a difference of")
    assert "not beyond chance" in found[2]
    named = compare(one, two, names=("old", "new"), kind="models", task="section")
    tasks = {"section": lines(*ROWS), "topic": lines(ROWS[0])}
    assert summarise(tasks, [named])[2].startswith("section: old is right in")
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
    assert found[0] == "every article with a gold label got it: 270 articles."
    assert not any("found worst" in sentence for sentence in found)


def test_without_gold_labels_it_is_told_what_could_be_looked_at() -> None:
    random = np.random.default_rng(0)
    (few,) = summarise({"section": analyse(LABELS, random.dirichlet(np.ones(3), 50))})
    assert few.startswith("there are no gold labels, and too few labels or articles to tell")
    (none,) = summarise({"section": analyse("abcdef", random.dirichlet(np.ones(6), 500))})
    assert none.startswith("of 15 pairs of labels, none overlaps beyond chance")


def thresholds(analysis: Analysis) -> list[str]:
    return [s for s in summarise({"section": analysis}) if " right" in s and "read as" not in s]


def test_a_threshold_tells_what_is_wanted_and_what_is_promised() -> None:
    unsure = (100, "life", (0.5, 0.1, 0.4))
    (sentence,) = thresholds(lines(*ROWS[:1], *ROWS[2:4], unsure))
    assert sentence == (
        "to be right in 90 % of cases, answer from a confidence of 90 % on: these answers are right in "
        "100 % of cases (at least 97.8 %, with 95 % confidence), and 73 % of all."
    )


def test_all_answers_together_may_do() -> None:
    (sentence,) = thresholds(lines(*ROWS[:1], *ROWS[2:4]))
    assert sentence == (
        "all answers together are right in 100 % of cases (at least 97.8 %, with 95 % confidence)."
    )


def test_too_few_articles_to_promise_anything() -> None:
    (sentence,) = thresholds(lines((40, "news", (0.9, 0.05, 0.05))))
    assert sentence == (
        "too few articles have a gold label (40) to promise that 90 % of answers are right, at any "
        "confidence: it takes 57."
    )
    assert smallest_promise(0.9) == 57
    assert find_threshold([0.9] * 57, [True] * 57, 0.9).threshold is not None
    assert find_threshold([0.9] * 56, [True] * 56, 0.9).threshold is None


def test_no_confidence_promises_it() -> None:
    wrong = (100, "life", (0.9, 0.05, 0.05))
    (sentence,) = thresholds(lines((100, "news", (0.9, 0.05, 0.05)), wrong))
    assert sentence == (
        "no confidence promises that 90 % of answers are right; of the surest 10 % of articles 50 % are."
    )


def test_suspects_are_told_only_where_the_model_should_not_err_so_often() -> None:
    """Gold labels drawn from the probabilities: as many are against it as it expects."""
    random = np.random.default_rng(0)
    p = np.array([[0.94, 0.03, 0.03], [0.03, 0.94, 0.03], [0.03, 0.03, 0.94]])
    p = p[random.integers(0, 3, 3_000)]
    gold = np.array([random.choice(3, p=row) for row in p])
    drawn = analyse(LABELS, p, gold)
    assert drawn.suspects is not None
    assert len(drawn.suspects.rows) > 20
    assert not any("may be wrong" in s for s in summarise({"section": drawn}))
    gold[:400] = (gold[:400] + 1) % 3
    (told,) = (s for s in summarise({"section": analyse(LABELS, p, gold)}) if "may be wrong" in s)
    assert " gold labels may be wrong: the model is at least 90 % sure of another label" in told


def test_the_weakest_label_has_articles_enough() -> None:
    analysis = lines(*ROWS[2:], (1, "news", (0.1, 0.8, 0.1)))
    (weakest,) = (s for s in summarise({"section": analysis}) if "found worst" in s)
    assert weakest.startswith(
        "life is found worst of the labels with 10 articles or more: its F1 is"
    )


def test_comparisons_leave_room_for_the_groups_asked_for() -> None:
    n = 400
    gold = np.repeat([0, 1], n // 2)
    p = np.tile([0.9, 0.05, 0.05], (n, 1))
    p[gold == 1] = [0.05, 0.9, 0.05]
    p[:60] = [0.3, 0.6, 0.1]
    groups = ["Post"] * 100 + ["Herald"] * 300
    analysis = analyse(LABELS, p, gold, groups=groups)
    other = analyse(LABELS, np.roll(p, 1, axis=0), gold).answers
    press = [compare(analysis.answers, other, kind="press") for _ in range(3)]
    bundles = compare(analysis.answers, other, names=("new", "old"), kind="models")
    found = summarise({"section": analysis}, [*press, bundles])
    assert found[2].startswith("new is right in")
    assert "of the news articles of Post are read as sport" in found[3]
