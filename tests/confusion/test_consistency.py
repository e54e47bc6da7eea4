"""No two sentences of a report contradict each other: properties over generated confusions."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.overlap import NULLS, plant
from newsie.confusion.analysis import Analysis, analyse
from newsie.confusion.report import suspect_rows
from newsie.confusion.sentences import percent
from newsie.confusion.summary import headline, summarise

NAMES = ("arts", "business", "crime", "desk", "europe", "food", "games", "health")


def draw(seed: int) -> Analysis:
    """A model that mixes up some labels; some gold labels are wrong, and some labels do not occur."""
    random = np.random.default_rng(seed)
    classes = int(random.integers(2, len(NAMES) + 1))
    articles = int(random.choice([20, 120, 400]))
    null = list(NULLS)[seed % len(NULLS)]
    p = NULLS[null](random, articles, classes)
    if classes > 3:
        p = plant(p, [(0, 1), (2, 3)], float(random.choice([1, 4, 12])))
    p = p ** float(random.choice([1, 3]))
    p /= p.sum(axis=1, keepdims=True)
    gold = np.array([random.choice(classes, p=row / row.sum()) for row in p])
    wrong = random.random(articles) < random.choice([0, 0.1, 0.3])
    gold[wrong] = random.integers(0, max(1, classes - 1), int(wrong.sum()))
    return analyse(NAMES[:classes], p, gold, pairs=1_000)


seeds = given(st.integers(0, 10_000))
examples = settings(max_examples=25)


@examples
@seeds
def test_a_pair_overlaps_in_all_sentences_or_in_none(seed: int) -> None:
    analysis = draw(seed)
    for pair in analysis.pairs:
        assert pair.evidence is not None
        said = " ".join([*pair.sentences, pair.advice.sentence])
        denied = re.search(r"not an overlap|not overlap", said)
        claimed = re.search(r"an overlap beyond chance|the two overlap beyond chance", said)
        assert bool(claimed) == (pair.evidence.overlapping is True)
        assert (pair.evidence.overlapping is False) == ("not an overlap" in said)
        assert not (denied and claimed)
        if pair.verdict == "overlap":
            assert not denied
        if analysis.overlap is not None:
            found = analysis.overlap.find(*pair.labels)
            assert pair.evidence.overlapping == (found.overlapping if found else None)


@examples
@seeds
def test_suspects_are_counted_once(seed: int) -> None:
    analysis = draw(seed)
    told = analysis.to_json()["suspects"]
    assert analysis.suspects is not None
    assert told["articles"] == len(analysis.suspects.rows) == len(suspect_rows(analysis))
    evidence = [pair.evidence for pair in analysis.pairs if pair.evidence is not None]
    assert told["sure"] == sum(e.suspect for e in evidence) <= told["articles"]
    if found := re.search(r"in (\d+|none) of them the model", told["sentence"]):
        assert int(found[1].replace("none", "0")) == told["sure"] < told["articles"]
    elif told["sentence"]:
        assert told["sure"] == told["articles"]
    for sentence in [told["sentence"], *summarise({"task": analysis})]:
        if found := re.match(r"([\d,]+) gold labels? .*may be wrong", sentence):
            assert int(found[1].replace(",", "")) == told["articles"]
    gold = analysis.answers.gold[analysis.suspects.rows]
    if found := re.search(r"more in (\w+) \((\d+)\) than in any other", told["sentence"]):
        counts = np.bincount(gold, minlength=len(NAMES))
        assert counts[NAMES.index(found[1])] == int(found[2]) == counts.max()
        assert (counts == counts.max()).sum() == 1


@examples
@seeds
def test_the_most_is_the_most(seed: int) -> None:
    analysis = draw(seed)
    assert analysis.matrix is not None
    counts = analysis.matrix.counts.copy()
    np.fill_diagonal(counts, 0)
    said = " ".join(all_sentences(analysis))
    if found := re.search(r"the most frequent mistake is (\w+) read as (\w+)", said):
        cell = counts[NAMES.index(found[1]), NAMES.index(found[2])]
        assert cell == counts.max()
        assert (counts == cell).sum() == 1
    both = np.triu(counts + counts.T)
    if found := re.search(r"(\w+) and (\w+) are confused most", said):
        a, b = sorted((NAMES.index(found[1]), NAMES.index(found[2])))
        assert both[a, b] == both.max()
        assert (both == both[a, b]).sum() == 1
    advised = {p.labels: p.merged for p in analysis.pairs if p.advice.action == "merge"}
    if found := re.search(r"merging (\w+) and (\w+) is the most useful of the (\d+)", said):
        gains = {labels: merged.gain.value for labels, merged in advised.items() if merged}
        assert gains[found[1], found[2]] == max(gains.values())
        assert int(found[3]) == len(gains)
    elif found := re.search(r"merging (\w+) and (\w+) is advised", said):
        assert set(advised) == {(found[1], found[2])}
    if found := re.search(r"(\w+) is found worst", said):
        scores = {
            m.label: m.f1.value for m in analysis.matrix.label_metrics() if m.f1 and m.support > 9
        }
        assert scores[found[1]] == min(scores.values())
        assert list(scores.values()).count(scores[found[1]]) == 1


def all_sentences(analysis: Analysis) -> list[str]:
    """The sentences that a summary may hold, also those behind the first five."""
    from newsie.confusion import summary

    return list(summary._sentences(["task"], {"task": analysis}, ()))


@examples
@seeds
def test_the_headline_and_the_summary_name_the_same_mistake(seed: int) -> None:
    analysis = draw(seed)
    first, large = summarise({"task": analysis})[0], headline({"task": analysis})
    if found := re.search(r"is (\w+) read as (\w+)", first):
        gold, predicted = found.groups()
        assert re.search(rf"\b{gold}\b.* read as {predicted}\b", large)
    else:
        assert first.startswith("every article with a gold label got it")
        assert large == "every article got its gold label"


@examples
@seeds
def test_labels_that_do_not_occur_are_named_once_and_have_no_row(seed: int) -> None:
    analysis = draw(seed)
    answers, absent = analysis.answers, set(analysis.absent)
    occurring = {answers.labels[i] for i in {*answers.gold.tolist(), *answers.predicted.tolist()}}
    assert absent == set(answers.labels) - occurring
    named = [sentence for sentence in analysis.left_out if "have no row" in sentence]
    assert len(named) == bool(absent)
    assert all(label in named[0] for label in absent)
    assert absent.isdisjoint(label for pair in analysis.pairs for label in pair.labels)
    if analysis.clusters is not None:
        assert sorted(analysis.clusters.order) == sorted(occurring)
        assert len(analysis.clusters.merges) == len(occurring) - 1
        assert [cut.labels for cut in analysis.clusters.cuts] == list(
            range(len(occurring) - 1, 1, -1)
        )


@given(st.floats(0, 1))
def test_only_none_is_0_percent_and_only_all_is_100_percent(share: float) -> None:
    assert (percent(share) == "0 %") == (share == 0)
    assert (percent(share) == "100 %") == (share == 1)


def test_a_tie_is_no_superlative() -> None:
    p = np.repeat([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]], 20, axis=0)
    gold = np.repeat([0, 1, 2], 20)
    gold[[0, 20]] = [1, 0]
    gold[[1, 40]] = [2, 0]
    first, second, *_ = summarise({"task": analyse(("arts", "business", "crime"), p, gold)})
    assert first.startswith("one of the most frequent mistakes is arts read as business: 1 article")
    assert "arts and business are among the pairs that are confused most, in 2 articles" in second


def test_an_overlap_beyond_chance_is_never_called_unexplained_by_one() -> None:
    """Both sides share much, but most articles that are confused are far from the border."""
    random = np.random.default_rng(0)
    p = plant(NULLS["quasi-independent"](random, 4_000, 8), [(0, 1)], 12)
    gold = p.argmax(axis=1)
    unsure = p.max(axis=1) < 0.85  # of which none is suspect
    far = np.flatnonzero((gold == 0) & (p[:, 1] < 0.1) & unsure)[:40]
    gold[far] = 1
    analysis = analyse(NAMES, p, gold)
    pair = next(pair for pair in analysis.pairs if set(pair.labels) == {"arts", "business"})
    assert pair.evidence is not None
    assert (pair.verdict, pair.evidence.overlapping) == ("unclear", True)
    assert "an overlap beyond chance, of more than 1.5 times" in pair.sentences[3]
    assert pair.advice.sentence.startswith(
        "Look at the articles: the two overlap beyond chance, but in "
    )


def test_a_pair_behind_the_first_200_is_tested_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("newsie.confusion.overlap._KEPT", 1)
    p = NULLS["quasi-independent"](np.random.default_rng(0), 500, 8)
    analysis = analyse(NAMES, p, np.roll(p.argmax(axis=1), 1))
    assert analysis.overlap is not None
    assert len(analysis.overlap.pairs) == 1
    assert "table" not in analysis.to_json()["overlap"]
    for pair in analysis.pairs:
        assert pair.evidence is not None
        assert pair.evidence.overlapping is not None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("two\nlines", r"two\nlines"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\u202eevil\u2069", r"\u202eevil\u2069"),
        ("<b>bold</b>", "<b>bold</b>"),
    ],
)
def test_a_foreign_name_stands_on_one_line(name: str, shown: str) -> None:
    labels = (name, "other", "third")
    p = np.repeat([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]], 20, axis=0)
    analysis = analyse(labels, p, np.repeat([1, 0, 2], 20))
    pair = analysis.pairs[0]
    sentences = [*pair.sentences, pair.advice.sentence, *all_sentences(analysis)]
    assert any(shown in sentence for sentence in sentences)
    for sentence in [*sentences, headline({"task": analysis})]:
        assert not re.search("[\x00-\x1f\u202a-\u202e\u2066-\u2069]", sentence)
