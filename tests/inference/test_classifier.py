from __future__ import annotations

import copy
import dataclasses
import gc
import math
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from newsie.bundles.bundle import Bundle, copy_bundle, read_bundle, write_bundle
from newsie.data.articles import Article
from newsie.data.cleaning import clean_text
from newsie.data.encoding import EncodingPolicy
from newsie.errors import BundleError, InputError, LabelError, MissingExtraError, ReadError
from newsie.inference.classifier import Classifier
from newsie.inference.openvino import Inputs, Session
from newsie.inference.prediction import Prediction
from newsie.labels import LabelSpace, Task
from newsie.metrics.evaluation import evaluate_predictions, softmax
from tests.tiny import LABELS, tiny_articles, tiny_tokenizer

ARTICLES = tiny_articles(40)


# --- a list in, a list out ------------------------------------------------------------------------


def test_an_article_gets_an_answer_for_each_task(tiny_classifier: Classifier) -> None:
    predictions = tiny_classifier.classify(ARTICLES)
    assert len(predictions) == len(ARTICLES)
    for found in predictions:
        assert found.tasks == ("section", "mood")
        assert list(found.scores) == ["section", "mood"]
        assert set(found.scores["section"]) == {"business", "science", "sports"}
    # The answers differ, or the tests of this file would see nothing.
    assert len({found.label("section") for found in predictions}) > 1


def test_no_articles(tiny_classifier: Classifier) -> None:
    assert tiny_classifier.classify([]) == []
    assert list(tiny_classifier.classify_stream([])) == []
    assert tiny_classifier.logits([])["section"].shape == (0, 3)


def test_one_article_is_not_a_list(tiny_classifier: Classifier) -> None:
    for single in ("goal", Article("goal")):
        with pytest.raises(InputError, match=r"a list of articles.*write classify\(\[article\]\)"):
            tiny_classifier.classify(single)  # type: ignore[arg-type]


class Table:
    """A table as those of pandas and polars: iterating over it gives its columns' names."""

    columns, shape = ("headline", "body"), (3, 2)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Table(), r"a Table was given; write classify\(\[Article\(\*row\) for row in zip\("),
        ({"headline": "goal"}, "a dict was given"),
        ({"goal"}, "a set was given"),
        (frozenset({"goal"}), "a frozenset was given"),
        (b"goal", "a bytes was given"),
        (None, "a NoneType was given"),
        (3, "a int was given"),
        (np.array("goal"), "a ndarray was given"),
        (np.array([["goal", "cup"]]), "a ndarray was given"),
    ],
)
def test_containers_that_are_no_list_of_articles(
    tiny_classifier: Classifier, wrong: Any, message: str
) -> None:
    for call in (tiny_classifier.classify, tiny_classifier.encode, tiny_classifier.logits):
        with pytest.raises(InputError, match=message.replace("classify", r"\w+")):
            call(wrong)
    with pytest.raises(InputError, match=message):
        next(tiny_classifier.classify_stream(wrong))
    with pytest.raises(InputError, match="article number 1 is given as"):
        tiny_classifier.explain(wrong)


def test_frames_of_pandas(tiny_classifier: Classifier) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas comes with the extras")
    frame = pandas.DataFrame({"headline": ["goal", "cup"], "body": [None, math.nan]})
    with pytest.raises(InputError, match="a DataFrame was given; write classify"):
        tiny_classifier.classify(frame)
    with pytest.raises(InputError, match="a DataFrame was given; write evaluate_predictions"):
        evaluate_predictions(frame, tiny_classifier.labels)
    with pytest.raises(InputError, match="article number 1 is given as DataFrame"):
        tiny_classifier.explain(frame)
    rows = [Article(*row) for row in zip(frame["headline"], frame["body"], strict=True)]
    rows.append(Article("vote", body=pandas.NA))
    expected = [p.label("section") for p in tiny_classifier.classify(["goal", "cup", "vote"])]
    assert [p.label("section") for p in tiny_classifier.classify(rows)] == expected
    assert len(tiny_classifier.classify(frame["headline"])) == 2


def test_sequences_of_all_kinds_are_lists(tiny_classifier: Classifier) -> None:
    expected = [p.scores for p in tiny_classifier.classify(["goal", "cup"])]
    for articles in (("goal", "cup"), (x for x in ("goal", "cup")), np.array(["goal", "cup"])):
        assert [p.scores for p in tiny_classifier.classify(articles)] == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("missing", [None, math.nan, np.float32("nan")])
def test_a_missing_text_is_an_empty_one(tiny_classifier: Classifier, missing: Any) -> None:
    expected = tiny_classifier.classify(["goal"])[0].scores
    for article in (Article("goal", body=missing), Article(missing, body="goal")):
        assert tiny_classifier.classify([article])[0].scores == expected
        [(yielded, prediction)] = tiny_classifier.classify_stream([article])
        assert prediction.scores == expected
        assert (yielded.headline or yielded.body) == "goal"
        assert tiny_classifier.explain(article).words
    with pytest.raises(InputError, match="article number 2 has neither"):
        tiny_classifier.classify([Article("goal"), Article(missing, body=missing)])


@pytest.mark.parametrize("wrong", [3, True, b"goal", ["goal"], {"main": "goal"}, 1.5])
def test_a_field_that_is_no_text_is_named_with_its_article(
    tiny_classifier: Classifier, wrong: Any
) -> None:
    kind = type(wrong).__name__
    for field in ("headline", "body"):
        article = Article(**({"headline": "cup"} | {field: wrong}))
        message = f"article number 2: its {field} is given as {kind}; give a text, or None"
        with pytest.raises(InputError, match=message):
            tiny_classifier.classify(["goal", article])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_classifier_can_be_copied_and_pickled(tiny_bundle: Path, copied: Any) -> None:
    classifier = Classifier.from_pretrained(tiny_bundle, threads=2)
    other = copied(classifier)
    assert other is not classifier
    assert (other.threads, other.bundle.fingerprint) == (2, classifier.bundle.fingerprint)
    assert other.classify(["goal"])[0].scores == classifier.classify(["goal"])[0].scores
    assert len(pickle.dumps(classifier)) < 1_000


def test_a_pickled_classifier_is_opened_in_another_process(tiny_bundle: Path) -> None:
    classifier = Classifier.from_pretrained(tiny_bundle, threads=1)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        [prediction] = pool.submit(classifier.classify, ["goal"]).result(120)
    assert prediction.scores == classifier.classify(["goal"])[0].scores


def test_a_pickled_classifier_refuses_another_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    path = copy_bundle(tiny_bundle, tmp_path / "mine").path
    pickled = pickle.dumps(Classifier.from_pretrained(path, threads=1))
    manifest = read_bundle(path).manifest
    write_bundle(
        path,
        name="other",
        label_space=manifest.label_space,
        encoding=manifest.encoding,
        calibration=dict.fromkeys(manifest.label_space.names, 9.0),
        model=(path / "model.onnx").read_bytes(),
        tokenizer=(path / "tokenizer.json").read_text(encoding="utf-8"),
        card="",
        replace=True,
    )
    with pytest.raises(
        BundleError, match=f"was of {manifest.fingerprint}, which has been replaced"
    ):
        pickle.loads(pickled)
    shutil.rmtree(path)
    with pytest.raises(BundleError, match="is not a directory"):
        pickle.loads(pickled)


def test_a_graph_that_is_replaced_while_it_is_opened_is_not_run(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copy_bundle(tiny_bundle, tmp_path / "mine").path
    expected = Classifier.from_pretrained(path, threads=1).classify(["goal"])[0].scores
    contents = Bundle.contents

    def replaced_behind(bundle: Bundle) -> dict[str, bytes]:
        read = contents(bundle)
        for name in read:
            (path / name).write_bytes(b"forged")
        return read

    monkeypatch.setattr(Bundle, "contents", replaced_behind)
    assert Classifier.from_pretrained(path, threads=1).classify(["goal"])[0].scores == expected


def test_fewer_tokens_than_the_special_ones(tiny_bundle: Path, tmp_path: Path) -> None:
    manifest = read_bundle(tiny_bundle).manifest
    path = write_bundle(
        tmp_path / "short",
        name="short",
        label_space=manifest.label_space,
        encoding=EncodingPolicy(max_tokens=2),
        calibration=manifest.calibration,
        model=tiny_bundle / "model.onnx",
        tokenizer=(tiny_bundle / "tokenizer.json").read_text(encoding="utf-8"),
        card="",
    ).path
    with pytest.raises(BundleError, match=r"max_tokens is 2.* adds 2 special tokens"):
        Classifier.from_pretrained(path)


@pytest.mark.parametrize("wrong", [None, 3, b"goal", {"headline": "goal"}])
def test_what_is_no_article(tiny_classifier: Classifier, wrong: Any) -> None:
    with pytest.raises(InputError, match=type(wrong).__name__):
        tiny_classifier.classify([wrong])


def test_a_text_is_a_headline_and_a_body(tiny_classifier: Classifier) -> None:
    text = tiny_classifier.logits(["goal cup - Tiny Times\nthe coach says", "the cup"])
    article = tiny_classifier.logits([Article("goal cup", "the coach says"), Article("the cup")])
    np.testing.assert_array_equal(text["section"], article["section"])


def test_only_the_tasks_asked_for(tiny_classifier: Classifier) -> None:
    (both,) = tiny_classifier.classify(["goal"])
    (one,) = tiny_classifier.classify(["goal"], tasks=["mood"])
    assert one.tasks == ("mood",)
    assert one.scores["mood"] == both.scores["mood"]
    with pytest.raises(InputError, match="'section' was not asked for; asked for: mood"):
        one.label("section")
    with pytest.raises(LabelError, match="there are: section, mood"):
        one.label("weather")
    with pytest.raises(LabelError, match="there are: section, mood"):
        tiny_classifier.classify(["goal"], tasks=["weather"])
    with pytest.raises(InputError, match=r"give a list: \['mood'\]"):
        tiny_classifier.classify(["goal"], tasks="mood")
    with pytest.raises(InputError, match="tasks is empty; give at least one"):
        tiny_classifier.classify(["goal"], tasks=[])


# --- numbers --------------------------------------------------------------------------------------


def test_probabilities_are_the_calibrated_softmax_of_the_logits(
    tiny_classifier: Classifier,
) -> None:
    logits = tiny_classifier.logits(ARTICLES)
    predictions = tiny_classifier.classify(ARTICLES)
    for task, temperature in (("section", 2.0), ("mood", 1.0)):
        assert logits[task].dtype == np.float32
        wanted = softmax(logits[task].astype(np.float64) / temperature)
        found = np.stack([prediction.probabilities[task] for prediction in predictions])
        np.testing.assert_allclose(found, wanted, atol=1e-6)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)


def test_answers_do_not_depend_on_the_company(tiny_classifier: Classifier) -> None:
    together = tiny_classifier.logits(ARTICLES)
    alone = [tiny_classifier.logits([article]) for article in ARTICLES]
    for task, logits in together.items():
        np.testing.assert_allclose(np.concatenate([a[task] for a in alone]), logits, atol=2e-5)


@pytest.mark.parametrize("threads", [2, 3])
def test_answers_do_not_depend_on_the_threads(tiny_bundle: Path, threads: int) -> None:
    one = Classifier.from_pretrained(tiny_bundle, threads=1).logits(ARTICLES)
    more = Classifier.from_pretrained(tiny_bundle, threads=threads).logits(ARTICLES)
    np.testing.assert_allclose(more["section"], one["section"], atol=2e-5)


def test_threads_come_from_the_argument_then_the_environment(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert Classifier.from_pretrained(tiny_bundle).threads == 3
    assert Classifier.from_pretrained(tiny_bundle, threads=2).threads == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert Classifier.from_pretrained(tiny_bundle).threads >= 1
    with pytest.raises(InputError, match="threads is 0"):
        Classifier.from_pretrained(tiny_bundle, threads=0)


def test_several_threads_may_ask_at_once(tiny_classifier: Classifier) -> None:
    wanted = [p.scores for p in tiny_classifier.classify(ARTICLES)]
    with ThreadPoolExecutor(4) as executor:
        for found in executor.map(lambda _: tiny_classifier.classify(ARTICLES), range(12)):
            assert [p.label("section") for p in found] == [
                max(scores["section"], key=scores["section"].__getitem__) for scores in wanted
            ]


def test_threads_are_kept_as_long_as_the_classifier(tiny_bundle: Path) -> None:
    before = set(threading.enumerate())
    classifier = Classifier.from_pretrained(tiny_bundle, threads=2)
    classifier.classify(ARTICLES)
    own = set(threading.enumerate()) - before
    assert own
    for _ in range(5):
        stream = classifier.classify_stream(ARTICLES)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    assert all(thread.is_alive() for thread in own)
    assert len(set(threading.enumerate()) - before) <= 2
    del classifier, stream
    gc.collect()
    for thread in own:
        thread.join(10)
        assert not thread.is_alive()


FORKED = """
import os, sys, warnings
warnings.simplefilter("ignore")
from newsie.inference.classifier import Classifier
classifier = Classifier.from_pretrained(sys.argv[1], threads=2)
classifier.classify(["goal cup", "rates"] * 20)
if child := os.fork():
    sys.exit(os.waitpid(child, 0)[1])
os._exit(len(classifier.classify(["goal cup", "rates"] * 20)) - 40)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_its_own_threads(tiny_bundle: Path) -> None:
    command = [sys.executable, "-c", FORKED, str(tiny_bundle)]
    subprocess.run(command, check=True, timeout=120)


# --- streams --------------------------------------------------------------------------------------


def test_a_stream_keeps_the_order_over_windows(tiny_classifier: Classifier) -> None:
    articles = tiny_articles(300, seed=1)  # more than the first window
    pairs = list(tiny_classifier.classify_stream(iter(articles)))
    assert [article for article, _ in pairs] == articles
    wanted = tiny_classifier.classify(articles)
    for (_, found), other in zip(pairs, wanted, strict=True):
        np.testing.assert_allclose(
            found.probabilities["section"], other.probabilities["section"], atol=1e-5
        )


def test_a_stream_is_read_a_window_at_a_time(tiny_bundle: Path) -> None:
    classifier = Classifier.from_pretrained(tiny_bundle, threads=1)
    taken = 0

    def source() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield "goal"

    stream = classifier.classify_stream(source())
    for size, articles in ((256, 256), (256, 512), (512, 1024), (1024, 2048), (1024, 3072)):
        next(stream)
        assert taken == articles
        for _ in range(size - 1):
            next(stream)


def windows(
    classifier: Classifier, articles: Iterable[Article], done: int = 0
) -> list[list[bytes]]:
    """The probabilities of each window, to the last bit."""
    return [
        [b"".join(rows.tobytes() for rows in p.probabilities.values()) for _, p in window]
        for window in classifier.classify_windows(articles, done=done)
    ]


def test_a_stream_that_is_continued_behind_a_window_is_equal_to_the_last_bit(
    tiny_bundle: Path,
) -> None:
    classifier = Classifier.from_pretrained(tiny_bundle, threads=2)
    articles = tiny_articles(2_500, seed=2)
    unbroken = windows(classifier, articles)
    assert [len(window) for window in unbroken] == [256, 256, 512, 1024, 452]
    done = 0
    for number, window in enumerate(unbroken):
        assert windows(classifier, iter(articles[done:]), done) == unbroken[number:]
        done += len(window)


def test_windows_do_not_depend_on_the_clock(tiny_bundle: Path) -> None:
    articles = tiny_articles(1_100, seed=3)

    def slow() -> Iterator[Article]:
        for number, article in enumerate(articles):
            if number in (100, 600):
                time.sleep(1.1)
            yield article

    classifier = Classifier.from_pretrained(tiny_bundle, threads=2)
    assert windows(classifier, slow()) == windows(classifier, articles)
    assert [len(w) for w in windows(classifier, slow())] == [256, 256, 512, 76]


def test_a_graph_of_larger_batches_has_larger_windows(tiny_bundle: Path) -> None:
    classifier = Classifier.from_pretrained(tiny_bundle, threads=1)
    for tokens, size in ((256, 1_024), (2_048, 2_048), (8_192, 4_096)):
        classifier._model._batch_tokens = tokens  # type: ignore[union-attr]
        assert len(next(classifier.classify_windows(["goal"] * 5_000, done=8_192))) == size


def test_messages_of_a_stream_that_is_continued_count_from_its_start(
    tiny_classifier: Classifier,
) -> None:
    with pytest.raises(InputError, match="article number 513 has neither"):
        list(tiny_classifier.classify_windows([" "], done=512))
    with pytest.raises(InputError, match="done is -1; it is a number of articles, 0 or more"):
        tiny_classifier.classify_windows(["goal"], done=-1)


class Gate:
    """A session that computes nothing before it is opened."""

    def __init__(self, session: Session) -> None:
        self.session, self.opened, self.calls = session, threading.Event(), 0

    def run(self, outputs: Sequence[str], inputs: Inputs, /) -> Sequence[NDArray[np.float32]]:
        assert self.opened.wait(30), "nobody opens the gate"
        self.calls += 1
        return self.session.run(outputs, inputs)


@pytest.fixture
def gated(tiny_bundle: Path) -> tuple[Classifier, Gate]:
    """A classifier of two threads that computes nothing yet."""
    classifier = Classifier.from_pretrained(tiny_bundle, threads=2)
    gate = Gate(classifier._model._session)  # type: ignore[union-attr]
    classifier._model._session = gate  # type: ignore[union-attr]
    return classifier, gate


def test_the_next_window_is_read_while_one_is_computed(gated: tuple[Classifier, Gate]) -> None:
    classifier, gate = gated
    articles = tiny_articles(300)

    def source() -> Iterator[Article]:
        yield from articles[:299]
        gate.opened.set()
        yield articles[299]

    found = [article for article, _ in classifier.classify_stream(source())]
    assert found == articles


def test_a_stream_that_is_given_up_computes_no_more(gated: tuple[Classifier, Gate]) -> None:
    classifier, gate = gated

    def source() -> Iterator[str]:
        yield from ["the coach says " * 40] * 256
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(classifier.classify_stream(source()))
    gate.opened.set()
    classifier._model._executor().shutdown()  # type: ignore[union-attr]
    assert gate.calls <= 2  # those that had begun; the window has more batches


def test_answers_before_an_error_come_first(tiny_classifier: Classifier) -> None:
    def source() -> Iterator[str]:
        yield from ["goal"] * 300
        raise ReadError("news.csv", "is damaged")

    stream = tiny_classifier.classify_stream(source())
    for _ in range(256):
        next(stream)
    with pytest.raises(ReadError, match="is damaged"):
        next(stream)


def test_a_prediction_that_is_kept_holds_no_others(tiny_classifier: Classifier) -> None:
    [(_, kept), *_] = tiny_classifier.classify_stream(["goal", "cup", "vote"])
    assert [rows.base for rows in kept.probabilities.values()] == [None, None]


def test_a_window_of_a_stream_holds_so_many_characters(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = Classifier.from_pretrained(tiny_bundle, threads=1)
    monkeypatch.setattr("newsie.inference.classifier.WINDOW_CHARACTERS", 10_000)
    taken = []

    def source() -> Iterator[str]:
        for number in range(40):
            taken.append(number)
            yield f"goal {number}\n" + "cup " * 1_000

    stream = classifier.classify_stream(source())
    headlines = [next(stream)[0].headline]
    assert len(taken) == 3  # 12,000 characters
    headlines += [article.headline for article, _ in stream]
    assert headlines == [f"goal {number}" for number in range(40)]


def test_an_error_names_the_article_of_a_stream(tiny_classifier: Classifier) -> None:
    with pytest.raises(InputError, match="article number 260 has neither"):
        list(tiny_classifier.classify_stream(["goal"] * 259 + [" "]))
    with pytest.raises(InputError, match="article 'x1' has neither"):
        list(tiny_classifier.classify_stream([Article("", id="x1")]))


# --- bad and odd texts ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " \n\t ", "\0", "\ud800", "\u200b\ufeff", "<br>", "\x1b"])
def test_no_text_is_an_error(tiny_classifier: Classifier, text: str) -> None:
    with pytest.raises(InputError, match="article number 1 has neither a headline nor a body"):
        tiny_classifier.classify([text])


@pytest.mark.parametrize(
    "text",
    [
        "goal \0 cup",
        "goal \ud800 cup",
        "🎉 👩‍👩‍👧 🇳🇱",
        "مرحبا بالعالم \u202e cup",
        "<p>goal <b>cup</b></p>",
        bytes(range(256)).decode("latin-1"),
        "a" * 10_000_000,
        "goal " * 2_000_000,
        "\n" * 3 + "goal",
        " " * 100_000 + "goal",
        "<style>" + "a{b:c}" * 10_000 + "</style>goal",
        "́" * 100_000,
    ],
)
def test_odd_texts_get_an_answer(tiny_classifier: Classifier, text: str) -> None:
    (found,) = tiny_classifier.classify([text])
    assert sum(found.scores["section"].values()) == pytest.approx(1, abs=1e-5)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_text_gets_an_answer_or_a_clear_error(
    tiny_classifier: Classifier, data: st.DataObject
) -> None:
    any_text = st.text(st.characters(codec=None))
    article = Article(data.draw(any_text), data.draw(any_text))
    if clean_text(article.headline) or clean_text(article.body):
        (found,) = tiny_classifier.classify([article])
        assert math.fsum(found.scores["mood"].values()) == pytest.approx(1)
    else:
        with pytest.raises(InputError, match="neither a headline nor a body"):
            tiny_classifier.classify([article])


def test_long_articles_are_marked_as_truncated(tiny_classifier: Classifier) -> None:
    found = tiny_classifier.classify([Article("cup", "goal " * 27), Article("cup", "goal " * 31)])
    assert [p.truncated for p in found] == [False, True]
    assert tiny_classifier.max_tokens == 32


# --- predictions ----------------------------------------------------------------------------------


def prediction(*section: float) -> Prediction:
    return Prediction(LABELS, {"section": np.array(section)}, truncated=False)


def test_scores_are_best_first() -> None:
    found = prediction(0.2, 0.5, 0.3)
    assert list(found.scores["section"].items()) == [
        ("science", 0.5),
        ("sports", 0.3),
        ("business", 0.2),
    ]
    assert found.label("section") == "science"
    assert found.confidence("section") == 0.5
    assert found.top("section", 2) == [("science", 0.5), ("sports", 0.3)]
    assert found.top("section", 9) == found.top("section")
    assert found.to_json(1) == {"section": [{"label": "science", "score": 0.5}]}


def test_equal_scores_keep_the_order_of_the_labels() -> None:
    found = prediction(0.25, 0.5, 0.25)
    assert [label for label, _ in found.top("section")] == ["science", "business", "sports"]
    assert prediction(0.5, 0.5, 0.0).label("section") == "business"


@pytest.mark.parametrize("k", [0, -1])
def test_at_least_one_label(k: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        prediction(0.2, 0.5, 0.3).top("section", k)


def test_predictions_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        prediction(0.2, 0.5, 0.3).truncated = True  # type: ignore[misc]


# --- where a model is found -----------------------------------------------------------------------


def test_a_directory_is_opened(tiny_bundle: Path, tiny_classifier: Classifier) -> None:
    found = Classifier.from_pretrained(str(tiny_bundle))
    assert found.labels.to_json() == LABELS.to_json()
    assert found.tasks == ("section", "mood")
    assert found.bundle.fingerprint == tiny_classifier.bundle.fingerprint


@pytest.mark.parametrize("name", ["nothing", "a/b/c", "../a", "https://a.b/c", "", "\0", "~/model"])
def test_neither_a_directory_nor_an_id(name: str) -> None:
    with pytest.raises(BundleError, match=r"allowed are a directory.*owner/name"):
        Classifier.from_pretrained(name)


def test_the_bundled_model_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("newsie.bundles.hub.bundled_path", lambda: tmp_path / "default")
    with pytest.raises(BundleError, match="brings no model"):
        Classifier.from_pretrained()


def test_a_directory_comes_before_the_hub(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "name").symlink_to(tiny_bundle)
    monkeypatch.chdir(tmp_path)
    assert Classifier.from_pretrained("owner/name").tasks == ("section", "mood")


def test_a_model_of_the_hub_is_downloaded(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked = []

    def download(name: str, **_: Any) -> str:
        asked.append(name)
        return str(tiny_bundle)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert Classifier.from_pretrained("owner/name").tasks == ("section", "mood")
    assert asked == ["owner/name"]


@pytest.mark.parametrize(
    ("typo", "message"),
    [
        ("models/our", "did you mean models/ours"),
        ("model/ours", "did you mean models/ours"),
        ("modles/ours", "did you mean models/ours"),
        (
            "models/something",
            "the folder models holds: models/ours. For a model of the Hugging Face hub",
        ),
        ("empty/ours", "the folder empty holds: none"),
    ],
)
def test_a_mistyped_path_is_not_asked_of_the_hub(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typo: str, message: str
) -> None:
    copy_bundle(tiny_bundle, tmp_path / "models" / "ours")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BundleError, match=f"there is no model '{typo}'.* {message}"):
        Classifier.from_pretrained(typo)


def test_a_model_that_the_hub_does_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BundleError, match=r"'owner/name'.*cannot be downloaded"):
        Classifier.from_pretrained("owner/name")


def test_the_hub_needs_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'newsie-classifier\[hub\]'"):
        Classifier.from_pretrained("owner/name")


# --- models that do not work ----------------------------------------------------------------------


def broken(
    directory: Path,
    *,
    scale: float = 1.0,
    labels: LabelSpace = LABELS,
    rows: int = 1000,
    column: int = 0,
    **files: Any,
) -> Path:
    """A bundle around a graph that looks the token of a column up in a table and scales it."""
    from onnx import TensorProto, helper, numpy_helper, save

    nodes, tensors, outputs = (
        [],
        [numpy_helper.from_array(np.array(scale, np.float32), "scale")],
        [],
    )
    tensors.append(numpy_helper.from_array(np.array(column), "zero"))
    nodes.append(helper.make_node("Gather", ["input_ids", "zero"], ["first"], axis=1))
    for task in LABELS.tasks:
        table = np.random.default_rng(0).normal(size=(rows, len(task.labels))).astype(np.float32)
        tensors.append(numpy_helper.from_array(table, f"table_{task.name}"))
        nodes.append(helper.make_node("Gather", [f"table_{task.name}", "first"], [f"{task.name}_"]))
        nodes.append(helper.make_node("Mul", [f"{task.name}_", "scale"], [task.name]))
        shape: list[str | int | None] = ["batch", len(task.labels)]
        outputs.append(helper.make_tensor_value_info(task.name, TensorProto.FLOAT, shape))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    graph = helper.make_graph(nodes, "broken", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    save(model, directory / "graph.onnx")
    values: dict[str, Any] = {
        "name": "broken",
        "label_space": labels,
        "encoding": EncodingPolicy(),
        "calibration": dict.fromkeys(labels.names, 1.0),
        "model": directory / "graph.onnx",
        "tokenizer": tiny_tokenizer().to_str(),
        "card": "",
    }
    return write_bundle(directory / "broken", **values | files).path


@pytest.mark.parametrize("scale", [math.nan, math.inf, -math.inf])
def test_a_logit_that_is_no_number_is_never_a_label(tmp_path: Path, scale: float) -> None:
    classifier = Classifier.from_pretrained(broken(tmp_path, scale=scale))
    with pytest.raises(BundleError, match="not a number"):
        classifier.classify(["goal"])
    with pytest.raises(BundleError, match="not a number"):
        classifier.logits(["goal"])


def test_the_graph_of_those_tests_works(tmp_path: Path) -> None:
    assert Classifier.from_pretrained(broken(tmp_path)).classify(["goal"])[0].label("mood")


@pytest.mark.parametrize(
    "labels",
    [
        LabelSpace((Task("section", ("a", "b", "c")),)),
        LabelSpace((Task("section", ("a", "b", "c")), Task("mood", ("a", "b", "c")))),
        LabelSpace((Task("section", ("a", "b", "c")), Task("tone", ("a", "b")))),
    ],
)
def test_a_graph_of_other_tasks(tmp_path: Path, labels: LabelSpace) -> None:
    with pytest.raises(BundleError, match=r"the outputs of model\.onnx"):
        Classifier.from_pretrained(broken(tmp_path, labels=labels))


def test_a_tokenizer_with_more_tokens_than_the_graph(tmp_path: Path) -> None:
    classifier = Classifier.from_pretrained(broken(tmp_path, rows=1))
    with pytest.raises(BundleError, match=r"cannot compute 1 article\(s\) of 3 tokens"):
        classifier.classify(["goal"])


def test_files_that_are_not_what_their_names_say(tmp_path: Path) -> None:
    (tmp_path / "nonsense").write_bytes(b"nonsense")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        Classifier.from_pretrained(broken(tmp_path, model=tmp_path / "nonsense"))


def test_a_tokenizer_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        Classifier.from_pretrained(broken(tmp_path, tokenizer="{}"))
