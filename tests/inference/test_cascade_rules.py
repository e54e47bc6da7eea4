"""The rules of a cascade by hand: its fingerprint, thresholds of few articles, students that do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from newsie.bundles.bundle import Bundle, write_bundle
from newsie.bundles.manifest import FIRST, MODEL, TOKENIZER, CascadeRule, FileRecord, Manifest
from newsie.data.encoding import EncodingPolicy
from newsie.errors import InputError
from newsie.inference.cascade import Cascade
from newsie.labels import IGNORE
from newsie.training.cascade_thresholds import _check_fit, _thresholds, choose_thresholds
from tests.tiny import LABELS, tiny_tokenizer

NAMES = (MODEL, FIRST, TOKENIZER)
RULE = CascadeRule(
    {"section": 1.5, "mood": 1.0},
    {task.name: dict.fromkeys(task.labels, 0.5) for task in LABELS.tasks},
)
MANIFEST = Manifest(
    "tiny",
    LABELS,
    EncodingPolicy(32),
    {"section": 2.0, "mood": 1.0},
    {name: FileRecord(digit * 64, 1) for name, digit in zip(NAMES, "123", strict=True)},
    cascade=RULE,
)


def test_all_that_decides_answers_of_a_cascade_is_in_its_fingerprint() -> None:
    thresholds = {**RULE.thresholds, "mood": {"calm": 0.5, "loud": 0.6}}
    others = [
        replace(MANIFEST, cascade=replace(RULE, thresholds=thresholds)),
        replace(MANIFEST, cascade=replace(RULE, calibration={"section": 1.6, "mood": 1.0})),
        replace(MANIFEST, files={**MANIFEST.files, FIRST: FileRecord("0" * 64, 1)}),
        replace(MANIFEST, files={**MANIFEST.files, MODEL: FileRecord("0" * 64, 1)}),
        replace(MANIFEST, calibration={"section": 2.0, "mood": 1.1}),
        replace(MANIFEST, cascade=None),
    ]
    prints = {manifest.fingerprint for manifest in (MANIFEST, *others)}
    assert len(prints) == len(others) + 1
    assert replace(MANIFEST, name="other", metrics={"a": 1}).fingerprint == MANIFEST.fingerprint


def test_an_answer_at_its_threshold_does_not_stand_and_each_label_has_its_own() -> None:
    rule = CascadeRule(
        {"section": 1.0, "mood": 1.0},
        {
            "section": dict.fromkeys(LABELS["section"].labels, 1.0),
            "mood": {"calm": 0.5, "loud": 0.25},
        },
    )
    model: Any = None  # only its answers matter here
    cascade = Cascade(model, model, rule, {"section": 1.0, "mood": 1.0}, LABELS)
    even, calm, loud = [0.0, 0.0], [0.1, 0.0], [0.0, 0.1]
    unsure = cascade.unsure("mood", np.array([even, calm, loud], np.float32))
    assert unsure.tolist() == [True, False, False]  # (1/2, 1/2) is calm, and not above 1/2
    limits = {"calm": 0.6, "loud": 0.5}
    higher = replace(rule, thresholds={**rule.thresholds, "mood": limits})
    cascade = Cascade(model, model, higher, {"section": 1.0, "mood": 1.0}, LABELS)
    assert cascade.unsure("mood", np.array([calm, loud], np.float32)).tolist() == [True, False]


def test_one_lucky_article_does_not_give_a_rare_label_a_threshold_of_its_own() -> None:
    # Of label 0, answers above 0.8 are worth keeping; label 1 has one article, at 0.5, that was right.
    confidence = np.append(np.linspace(0.4, 1, 200), 0.5)
    label = np.append(np.zeros(200, np.int64), 1)
    saved = np.append(np.where(confidence[:200] > 0.8, 1.0, -5.0), 1.0)
    common, rare = _thresholds(confidence, label, saved, 2)
    assert common == pytest.approx(0.8, abs=0.01)
    assert rare == pytest.approx(0.8, abs=0.01)


def test_articles_that_are_as_sure_are_kept_together_or_not_at_all() -> None:
    confidence, label = np.array([0.9, 0.9, 0.3]), np.zeros(3, np.int64)
    [nothing] = _thresholds(confidence, label, np.array([1.0, -3.0, -1.0]), 1)
    assert nothing == 1.0  # above which there is nothing
    [both] = _thresholds(confidence, label, np.array([3.0, -1.0, -1.0]), 1)
    assert both == 0.3


def test_what_is_seen_to_be_lost_counts_where_the_larger_student_hesitates() -> None:
    # The larger student is right by a hair each time, so that it expects to lose next to nothing.
    first = np.tile([0.1, 0.9], (200, 1))
    last = np.tile([0.5001, 0.4999], (200, 1))
    task = choose_thresholds(first, last, np.zeros(200, np.int64))
    assert task.accuracy == task.accuracy_last == 1
    assert task.accuracy_first == 0
    assert task.passed_on == 1


def test_students_of_two_tokenizers_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"a graph")
    (tmp_path / "other.onnx").write_bytes(b"another graph")

    def student(name: str, model: str, tokenizer: str) -> Bundle:
        return write_bundle(
            tmp_path / name,
            name=name,
            label_space=LABELS,
            encoding=EncodingPolicy(32),
            calibration={"section": 1.0, "mood": 1.0},
            model=tmp_path / model,
            tokenizer=tokenizer,
            card="",
        )

    text = tiny_tokenizer().to_str()
    one, two = student("one", "model.onnx", text), student("two", "other.onnx", text)
    _check_fit(one, two)
    changed = tiny_tokenizer()
    changed.add_tokens(["zeppelin"])
    with pytest.raises(InputError, match="they differ in tokenizer"):
        _check_fit(one, student("three", "other.onnx", changed.to_str()))


@pytest.mark.parametrize(("count", "passed_on"), [(99, 1.0), (100, 0.0)])
def test_a_hundred_labelled_articles_are_needed_to_choose(count: int, passed_on: float) -> None:
    both = np.tile([0.9, 0.1], (count + 50, 1))
    gold = np.append(np.zeros(count, np.int64), np.full(50, IGNORE))  # which do not count
    assert choose_thresholds(both, both, gold).passed_on == passed_on
