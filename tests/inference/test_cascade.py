from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from newsie.bundles.bundle import Bundle, CascadeRule, copy_bundle, read_bundle, write_bundle
from newsie.cli.app import app
from newsie.data.articles import Article
from newsie.errors import BundleError, InputError
from newsie.inference.classifier import Classifier
from newsie.labels import IGNORE, LabelSpace, Task
from newsie.training.cascade_thresholds import MIN_ARTICLES, build_cascade, choose_thresholds
from tests.inference.test_classifier import broken
from tests.tiny import LABELS, tiny_articles, write_tiny_corpus

ARTICLES = tiny_articles(300, seed=5)
CALIBRATION = {"section": 0.5, "mood": 1.5}


@pytest.fixture(scope="module")
def small(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A student that looks at the first token of a text alone, and so is often wrong."""
    large = read_bundle(tiny_bundle)
    path = broken(
        tmp_path_factory.mktemp("small"),
        encoding=large.manifest.encoding,
        calibration=CALIBRATION,
        column=1,
        scale=2.0,
    )
    return read_bundle(path)


def for_all_labels(thresholds: dict[str, float]) -> dict[str, dict[str, float]]:
    return {task: dict.fromkeys(LABELS[task].labels, value) for task, value in thresholds.items()}


def cascade_of(
    small: Bundle, tiny_bundle: Path, directory: Path, **thresholds: float
) -> Classifier:
    """Two students, with the same threshold for all labels of a task."""
    large = read_bundle(tiny_bundle)
    made = write_bundle(
        directory,
        name="both",
        label_space=LABELS,
        encoding=large.manifest.encoding,
        calibration=large.manifest.calibration,
        model=large.model_path,
        tokenizer=large.tokenizer_path.read_text(encoding="utf-8"),
        card="",
        cascade=CascadeRule(CALIBRATION, for_all_labels(thresholds)),
        first=small.model_path,
    )
    return Classifier(made)


def test_an_answer_stands_above_the_threshold_of_its_task(
    small: Bundle, tiny_bundle: Path, tmp_path: Path
) -> None:
    limits = {"section": 0.8, "mood": 0.6}
    both = cascade_of(small, tiny_bundle, tmp_path / "both", **limits)
    first, last = Classifier(small), Classifier.from_pretrained(tiny_bundle)
    passed = np.zeros(len(ARTICLES), bool)
    found = both.classify(ARTICLES)
    assert both.passed_on is not None
    for task, limit in limits.items():
        answers = [model.classify(ARTICLES, tasks=[task]) for model in (first, last)]
        for row, (own, one, other) in enumerate(zip(found, *answers, strict=True)):
            passed[row] |= one.confidence(task) <= limit
            wanted = one if one.confidence(task) > limit else other
            np.testing.assert_allclose(
                own.probabilities[task], wanted.probabilities[task], atol=1e-5
            )
    assert 0.1 < both.passed_on.share < 0.9
    assert both.passed_on == (len(ARTICLES), passed.sum())
    assert last.passed_on is None


def test_answers_depend_neither_on_company_nor_on_other_tasks(
    small: Bundle, tiny_bundle: Path, tmp_path: Path
) -> None:
    both = cascade_of(small, tiny_bundle, tmp_path / "both", section=0.7, mood=0.7)
    together = both.classify(ARTICLES[:40])
    for article, found in zip(ARTICLES[:40], together, strict=True):
        for task in both.tasks:
            [alone] = both.classify([article], tasks=[task])
            np.testing.assert_allclose(
                alone.probabilities[task], found.probabilities[task], atol=1e-5
            )


@pytest.mark.parametrize(("threshold", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_all_or_nothing_is_passed_on(
    small: Bundle, tiny_bundle: Path, tmp_path: Path, threshold: float, share: float
) -> None:
    both = cascade_of(small, tiny_bundle, tmp_path / "both", section=threshold, mood=threshold)
    assert list(both.classify_stream(ARTICLES))
    assert both.passed_on is not None
    assert both.passed_on.share == share


# --- thresholds -----------------------------------------------------------------------------------


@st.composite
def answered(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of both students, and gold labels, some unknown."""
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    count = draw(st.integers(MIN_ARTICLES, 3 * MIN_ARTICLES))
    first = random.dirichlet([0.3, 0.3, 0.3], count)
    last = random.dirichlet([0.2, 0.2, 0.2], count) * 0.5 + 0.5 * first
    gold = np.array([random.choice(3, p=row) for row in last])
    gold[MIN_ARTICLES:][random.random(count - MIN_ARTICLES) < 0.3] = IGNORE
    return first, last, gold


@settings(max_examples=30, deadline=None)
@given(answered(), st.sampled_from([0.0, 1.0, 5.0]))
def test_thresholds_lose_no_more_than_they_may(
    found: tuple[np.ndarray, np.ndarray, np.ndarray], limit: float
) -> None:
    first, last, gold = found
    task = choose_thresholds(first, last, gold, max_loss_points=limit)
    assert task.articles == (gold != IGNORE).sum()
    assert 0 <= task.passed_on <= 1
    assert max(task.lost_points, task.expected_points) <= limit + 1e-6


@pytest.mark.parametrize("count", [150, 600])
def test_what_is_lost_is_told_as_it_is_on_other_articles(count: int) -> None:
    # The larger student's probabilities are true, so that the loss on endless articles is what it expects.
    def draw(random: np.random.Generator, articles: int) -> tuple[np.ndarray, ...]:
        logits = 2 * random.normal(size=(articles, 5))
        first, last = (
            np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
            for z in (0.8 * (logits + random.normal(size=logits.shape)), logits)
        )
        return first, last, (last.cumsum(axis=1) > random.random((articles, 1))).argmax(axis=1)

    first, last, _ = draw(np.random.default_rng(0), 50_000)
    label = first.argmax(axis=1)
    expected = last.max(axis=1) - last[np.arange(len(label)), label]
    losses, within = [], []
    for seed in range(1, 21):
        task = choose_thresholds(*draw(np.random.default_rng(seed), count))
        kept = first.max(axis=1) > np.array(task.thresholds)[label]
        losses.append(100 * float((expected * kept).mean()))
        within.append(abs(losses[-1] - task.lost_points) <= task.margin_points)
    assert np.mean(losses) < 0.2
    assert np.mean(within) >= 0.9


def two_labels(*rows: tuple[int, float, float, int]) -> tuple[np.ndarray, ...]:
    """Times, the small student's and the larger one's probability of label 0, and gold label."""
    times, first, last, gold = (np.array(column) for column in zip(*rows, strict=True))
    pairs = [np.repeat(np.stack([p, 1 - p], axis=1), times, axis=0) for p in (first, last)]
    return (*pairs, np.repeat(gold, times))


def test_a_label_has_its_own_threshold() -> None:
    # As sure of both labels, the small student is right of label 0 and wrong of label 1.
    found = choose_thresholds(*two_labels((500, 0.8, 0.9, 0), (500, 0.2, 0.9, 0)))
    assert found.thresholds == (0.0, 1.0)
    assert (found.passed_on, found.lost_points, found.expected_points) == (0.5, 0, 0)


def test_articles_without_gold_show_what_a_label_loses() -> None:
    # The middle row makes answers dear; of label 1 the four with gold alone would seem to lose nothing.
    labelled = (400, 0.9, 0.9, 0), (100, 0.6, 0.25, 0), (4, 0.2, 0.1, 1)
    assert choose_thresholds(*two_labels(*labelled)).thresholds[1] < 0.8
    more = (500, 0.2, 0.8, IGNORE)
    assert choose_thresholds(*two_labels(*labelled, more)).thresholds[1] >= 0.8


def test_luck_on_few_articles_is_no_reason() -> None:
    # Counted, the small student is as good as the larger one, which expects otherwise of the last 60.
    rows = two_labels((140, 0.9, 0.9, 0), (30, 0.6, 0.35, 0), (30, 0.6, 0.35, 1))
    found = choose_thresholds(*rows)
    assert (found.thresholds[0], found.expected_points) == (0.6, 0)
    assert found.passed_on == pytest.approx(0.3)
    free = choose_thresholds(*rows, max_loss_points=10)
    assert (free.passed_on, free.lost_points) == (0, 0)
    assert free.expected_points == pytest.approx(9)


def test_the_margin_by_hand() -> None:
    # All 200 are kept; of these the larger student alone gets 6 right, and the small one alone 6 others.
    rows = two_labels((188, 0.9, 0.9, 0), (6, 0.9, 0.499, 1), (6, 0.9, 0.499, 0))
    found = choose_thresholds(*rows)
    assert (found.passed_on, found.lost_points) == (0, 0)
    assert found.margin_points == pytest.approx(100 * 1.96 * (13 / 202 / 202) ** 0.5)


def test_the_larger_student_answers_alone_where_too_few_articles_tell() -> None:
    rows = two_labels((MIN_ARTICLES - 1, 0.9, 0.9, 0))
    found = choose_thresholds(*rows)
    assert (found.thresholds, found.passed_on) == ((1.0, 1.0), 1.0)
    nothing = choose_thresholds(*(column[:0] for column in rows))
    assert (nothing.thresholds, nothing.lost_points, nothing.margin_points) == ((1.0, 1.0), 0, 0)


# --- bundles --------------------------------------------------------------------------------------


def test_a_cascade_is_one_bundle(small: Bundle, tiny_bundle: Path, tmp_path: Path) -> None:
    large = read_bundle(tiny_bundle)
    made = build_cascade(small, large, ARTICLES, tmp_path / "made", max_loss_points=3.0)
    measured = made.manifest.metrics["cascade"]
    assert set(measured) == {"section", "mood"}
    assert made.manifest.cascade is not None
    assert made.manifest.cascade.calibration == CALIBRATION
    for task, found in measured.items():
        assert list(made.manifest.cascade.thresholds[task].values()) == list(found["thresholds"])
        assert found["accuracy"] >= found["accuracy_last"] - 0.03
    assert "| section | 2" in made.card
    assert len({made.fingerprint, small.fingerprint, large.fingerprint}) == 3
    assert copy_bundle(made.path, tmp_path / "copy").manifest == made.manifest

    # What was measured is what the bundle does.
    known = [a for a in ARTICLES if "section" in a.labels]
    predictions = Classifier(made).classify(known, tasks=["section"])
    right = [
        p.label("section") == a.labels["section"] for p, a in zip(predictions, known, strict=True)
    ]
    assert np.mean(right) == pytest.approx(
        measured["section"]["accuracy"], abs=measured["section"]["margin_points"] / 100
    )


def test_a_damaged_first_student_is_noticed(
    small: Bundle, tiny_bundle: Path, tmp_path: Path
) -> None:
    made = cascade_of(small, tiny_bundle, tmp_path / "both", section=0.7, mood=0.7).bundle
    with made.first_path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"first\.onnx is damaged"):
        read_bundle(made.path)


def test_students_that_do_not_fit(small: Bundle, tiny_bundle: Path, tmp_path: Path) -> None:
    large = read_bundle(tiny_bundle)
    other = LabelSpace((Task("section", ("a", "b", "c")), Task("mood", ("calm", "loud"))))
    strange = read_bundle(broken(tmp_path, labels=other, encoding=large.manifest.encoding))
    with pytest.raises(InputError, match="they differ in tasks and labels"):
        build_cascade(strange, large, ARTICLES, tmp_path / "made")
    longer = replace(large.manifest.encoding, max_tokens=99)
    (tmp_path / "longer").mkdir()
    strange = read_bundle(broken(tmp_path / "longer", labels=LABELS, encoding=longer))
    with pytest.raises(InputError, match=r"they differ in max_tokens \(99 and \d+\)"):
        build_cascade(strange, large, ARTICLES, tmp_path / "made")
    with pytest.raises(InputError, match="are the same student; a cascade needs two"):
        build_cascade(large, large, ARTICLES, tmp_path / "made")
    with pytest.raises(InputError, match="none of the articles has a gold label"):
        build_cascade(small, large, [Article("goal")], tmp_path / "made")
    made = build_cascade(small, large, ARTICLES, tmp_path / "made")
    with pytest.raises(InputError, match="a cascade already"):
        build_cascade(small, made, ARTICLES, tmp_path / "more")


def test_a_rule_that_makes_no_sense(small: Bundle, tiny_bundle: Path) -> None:
    manifest = read_bundle(tiny_bundle).manifest
    whole = for_all_labels({"section": 0.5, "mood": 0.5})
    rules: tuple[tuple[dict[str, Any], str], ...] = (
        (for_all_labels({"section": 0.5, "mood": 1.5}), r"label '\w+' of task 'mood' is 1\.5"),
        (for_all_labels({"section": 0.5}), "thresholds of task 'mood' are None; one for each"),
        ({**whole, "mood": 0.5}, "thresholds of task 'mood' are 0.5; one for each"),
        ({**whole, "mood": {"calm": 0.5}}, "make it again with newsie cascade"),
    )
    for wrong, message in rules:
        with pytest.raises(BundleError, match=message):
            replace(manifest, cascade=CascadeRule(CALIBRATION, wrong))
    with pytest.raises(BundleError, match=r"does not list first\.onnx"):
        replace(manifest, cascade=CascadeRule(CALIBRATION, whole))


def test_the_command(small: Bundle, tiny_bundle: Path, tmp_path: Path) -> None:
    file = write_tiny_corpus(tmp_path / "gold.jsonl", 300, seed=5)
    models = [str(small.path), str(tiny_bundle), "-o", str(tmp_path / "made")]
    done = CliRunner().invoke(app, ["cascade", *models, "--validation", str(file)])
    assert done.exit_code == 0, done.output
    assert "of 2" in done.stderr
    assert "articles passed on" in done.stderr
    assert done.stdout.strip() == str(tmp_path / "made")
    content = json.loads((tmp_path / "made" / "newsie.json").read_text(encoding="utf-8"))
    assert set(content["cascade"]["thresholds"]) == {"section", "mood"}

    turned = [str(tiny_bundle), str(small.path), "-o", str(tmp_path / "turned")]
    other = CliRunner().invoke(app, ["cascade", *turned, "--validation", str(file)])
    for task, found in content["metrics"]["cascade"].items():
        said = [
            f"{task}: {read_bundle(path).manifest.name}, named first, is" for path in models[:2]
        ]
        better = found["accuracy_first"] > found["accuracy_last"]
        worse = found["accuracy_first"] < found["accuracy_last"]
        assert (said[0] in done.stderr, said[1] in other.stderr) == (better, worse)
        assert better or worse

    few = tmp_path / "few.jsonl"
    few.write_text('{"headline": "Rain", "section": "sports"}\n', encoding="utf-8")
    models[-1] = str(tmp_path / "other")
    done = CliRunner().invoke(app, ["cascade", *models, "--validation", str(few)])
    assert done.exit_code == 0, done.output
    assert "mood: no article has a gold label of it, so " in done.stderr
    assert "mood: 100" not in done.stderr

    assert CliRunner().invoke(app, ["cascade", *models]).exit_code == 2
    wrong = CliRunner().invoke(app, ["cascade", *models, "--run", str(tmp_path)])
    assert wrong.exit_code == 1
    assert "does not hold the articles" in wrong.stderr


def test_a_server_counts_what_is_passed_on() -> None:
    pytest.importorskip("prometheus_client", reason="needs the extra serve")
    from newsie.inference.cascade import PassedOn
    from newsie.serving.metrics import Metrics

    metrics = Metrics()
    for count in (PassedOn(10, 2), PassedOn(30, 7)):
        metrics.cascade(count)
    metrics.loaded("another")
    metrics.cascade(PassedOn(5, 1))
    assert "newsie_cascade_passed_on_total 8.0" in metrics.render().decode()
