from __future__ import annotations

from pathlib import Path

import numpy as np

from newsie.bundles.bundle import Bundle, read_bundle, write_bundle
from newsie.graph.heads import HeadWeights, write_heads
from newsie.graph.weights import read_weights
from newsie.inference.classifier import Classifier
from newsie.labels import LabelSpace, Task
from newsie.training.retraining.hidden_states import read_states
from newsie.training.revived_student import revive_student
from tests.tiny import LABELS, tiny_articles

SPACE = LABELS.extend({"mood": ["sad"], "desk": ["city", "night", "sea"]})


def random_head(labels: int, seed: int = 0) -> HeadWeights:
    random = np.random.default_rng(seed)
    shapes = ((32, 32), (32,), (labels, 32), (labels,))
    return HeadWeights(*(random.normal(size=shape).astype(np.float32) for shape in shapes))


def with_heads(
    base: Bundle, target: Path, heads: dict[str, HeadWeights], space: LabelSpace
) -> Bundle:
    write_heads(base, heads, space, target.with_suffix(".onnx"))
    return write_bundle(
        target,
        name="more",
        label_space=space,
        encoding=base.manifest.encoding,
        calibration=dict.fromkeys(space.names, 1.0),
        model=target.with_suffix(".onnx"),
        tokenizer=base.tokenizer_path.read_text(encoding="utf-8"),
        card="",
    )


def test_states_are_what_heads_answer_from(tiny_bundle: Path, tmp_path: Path) -> None:
    base = read_bundle(tiny_bundle)
    classifier = Classifier(base, threads=1)
    articles = tiny_articles(50)
    states = read_states(base, classifier.encode(articles).ids, tmp_path, tasks=["mood"])
    weights, logits = read_weights(base), classifier.logits(articles)
    inner = np.maximum(
        states.first @ weights["heads.mood.pre_classifier.weight"].T
        + weights["heads.mood.pre_classifier.bias"],
        0,
    )
    assert np.abs(inner - states.inner["mood"]).max() < 0.05 * np.abs(inner).max()  # int8
    found = states.inner["mood"] @ weights["heads.mood.classifier.weight"].T
    found += weights["heads.mood.classifier.bias"]
    assert np.abs(found - logits["mood"]).max() < 0.05 * np.abs(found).max()


def test_other_tasks_answer_as_before_bit_for_bit(tiny_bundle: Path, tmp_path: Path) -> None:
    base = read_bundle(tiny_bundle)
    heads = {"mood": random_head(3), "desk": random_head(3, seed=1)}
    more = Classifier(with_heads(base, tmp_path / "more", heads, SPACE), threads=1)
    articles = tiny_articles(60)
    before, after = Classifier(base, threads=1).logits(articles), more.logits(articles)
    np.testing.assert_array_equal(before["section"], after["section"])
    assert after["mood"].shape == after["desk"].shape == (60, 3)


def test_new_heads_compute_what_they_should(tiny_bundle: Path, tmp_path: Path) -> None:
    base = read_bundle(tiny_bundle)
    heads = {"mood": random_head(3), "desk": random_head(3, seed=1)}
    more = Classifier(with_heads(base, tmp_path / "more", heads, SPACE), threads=1)
    articles = tiny_articles(60)
    first = read_states(base, more.encode(articles).ids, tmp_path).first
    for task, head in heads.items():
        inner = np.maximum(first @ head.inner.T + head.inner_bias, 0)
        wanted = inner @ head.outer.T + head.outer_bias
        found = more.logits(articles)[task]
        assert np.abs(wanted - found).max() < 0.05 * np.abs(wanted).max()  # int8


def test_a_student_with_new_heads_is_one_like_all_others(tiny_bundle: Path, tmp_path: Path) -> None:
    heads = {"mood": random_head(3), "desk": random_head(3, seed=1)}
    more = with_heads(read_bundle(tiny_bundle), tmp_path / "more", heads, SPACE)
    model = revive_student(more)  # makes sure itself that the answers are the same
    assert model.labels == SPACE
    again = with_heads(more, tmp_path / "again", {"desk": random_head(3, seed=2)}, SPACE)
    articles = tiny_articles(20)
    one, two = (Classifier(bundle, threads=1).logits(articles) for bundle in (more, again))
    np.testing.assert_array_equal(one["mood"], two["mood"])
    assert (one["desk"] != two["desk"]).any()
    assert revive_student(again).labels == SPACE


def test_a_task_alone(tiny_bundle: Path, tmp_path: Path) -> None:
    space = LabelSpace((*LABELS.tasks, Task("extra", ("a", "b"))))
    heads = {"extra": random_head(2)}
    more = with_heads(read_bundle(tiny_bundle), tmp_path / "more", heads, space)
    assert Classifier(more).tasks == ("section", "mood", "extra")


def test_the_only_head_may_be_put_in_another_s_place(tiny_bundle: Path, tmp_path: Path) -> None:
    import onnx

    base = read_bundle(tiny_bundle)
    graph = onnx.load(base.model_path)
    del graph.graph.output[0]  # "section"; what it alone needs stays in the file, unused
    onnx.save(graph, tmp_path / "mood.onnx")
    space = LabelSpace((LABELS["mood"],))
    alone = write_bundle(
        tmp_path / "alone",
        name="alone",
        label_space=space,
        encoding=base.manifest.encoding,
        calibration={"mood": 1.0},
        model=tmp_path / "mood.onnx",
        tokenizer=base.tokenizer_path.read_text(encoding="utf-8"),
        card="",
    )
    other = with_heads(alone, tmp_path / "other", {"mood": random_head(2)}, space)
    articles = tiny_articles(20)
    one, two = (Classifier(bundle, threads=1).logits(articles) for bundle in (alone, other))
    assert (one["mood"] != two["mood"]).all()
