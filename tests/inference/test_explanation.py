from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsie.bundles.bundle import write_bundle
from newsie.data.articles import Article
from newsie.data.encoding import Encoder, EncodingPolicy
from newsie.errors import InputError, LabelError
from newsie.inference.classifier import Classifier
from newsie.inference.explanation import NO_WORD, Explanation, Word, occlude, split_words
from newsie.labels import LabelSpace, Task
from tests.tiny import tiny_articles, tiny_tokenizer

ARTICLES = tiny_articles(12, seed=5)


def words_of(article: Article, max_words: int = 128, max_tokens: int = 64) -> tuple[Word, ...]:
    read = Encoder(tiny_tokenizer(), EncodingPolicy(max_tokens)).read(article)
    return split_words(read, article, max_words)[0]


def given_text(article: Article, word: Word) -> str | None:
    if word.start is None:
        return None
    return (article.headline if word.part == "headline" else article.body)[word.start : word.end]


# --- effects --------------------------------------------------------------------------------------


@pytest.mark.parametrize("article", ARTICLES[:4])
def test_an_effect_is_what_classifying_without_the_word_changes(
    tiny_classifier: Classifier, article: Article
) -> None:
    found = tiny_classifier.explain(article)
    (whole,) = tiny_classifier.classify([article])
    assert found.chosen == {task: whole.label(task) for task in whole.tasks}
    for number, word in enumerate(found.words):
        left = [w.text for w in found.words if w.part == "headline" and w is not word]
        right = [w.text for w in found.words if w.part == "body" and w is not word]
        (without,) = tiny_classifier.classify([Article(" ".join(left), " ".join(right))])
        for task in found.tasks:
            label = whole.label(task)
            wanted = whole.scores[task][label] - without.scores[task][label]
            assert found.effects(task)[number] == pytest.approx(wanted, abs=1e-4)
            assert found.score(task) == pytest.approx(whole.confidence(task), abs=1e-5)


def test_the_words_that_decide_are_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A model whose answer is known: every "goal" adds 1 to the logit of sports, every "shares" takes 1."""
    classifier = counting_classifier(tmp_path_factory.mktemp("counting"))
    found = classifier.explain(Article("the goal", "shares of the city"), labels={"section": "b"})
    p = 1 / (1 + np.exp(-np.array([0.0, -1.0, 1.0])))  # both words, without goal, without shares
    assert [word.text for word in found.words] == ["the", "goal", "shares", "of", "the", "city"]
    np.testing.assert_allclose(
        found.effects("section"), [0, p[0] - p[1], p[0] - p[2], 0, 0, 0], atol=1e-6
    )
    np.testing.assert_allclose(found.effects("section", "a"), -found.effects("section"), atol=1e-9)
    (first, effect), second = found.strongest("section", 2)
    assert (first.text, second[0].text) == ("goal", "shares")
    assert effect == pytest.approx(0.5 - 1 / (1 + np.e))


def test_strongest_words_are_for_or_against() -> None:
    words = tuple(Word(text, "headline", None, None) for text in ("weak", "against", "for"))
    without = np.array([[0.45, 0.55], [0.9, 0.1], [0.2, 0.8]])  # each word left out
    found = Explanation(
        LabelSpace((Task("section", ("a", "b")),)),
        words,
        {"section": np.array([0.5, 0.5])},
        {"section": without},
        {"section": "a"},
        1,
        False,
    )
    assert found.effects("section").tolist() == pytest.approx([0.05, -0.4, 0.3])
    assert [word.text for word, _ in found.strongest("section", 2)] == ["against", "for"]
    assert found.strongest("section", 1)[0][1] == pytest.approx(-0.4)


def counting_classifier(directory: object) -> Classifier:
    from pathlib import Path

    from onnx import TensorProto, helper, numpy_helper, save

    from newsie.labels import LabelSpace, Task

    tokenizer = tiny_tokenizer()
    table = np.zeros((tokenizer.get_vocab_size(), 2), np.float32)
    for word, weight in (("goal", 1.0), ("shares", -1.0)):
        table[tokenizer.token_to_id(word), 1] = weight
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["weights"]),
            helper.make_node("ReduceSum", ["weights", "axes"], ["section"], keepdims=0),
        ],
        "counting",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("section", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1]), "axes")],
    )
    path = Path(str(directory))
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
        path / "m.onnx",
    )
    return Classifier(
        write_bundle(
            path / "bundle",
            name="counting",
            label_space=LabelSpace((Task("section", ("a", "b")),)),
            encoding=EncodingPolicy(64),
            calibration={"section": 1.0},
            model=path / "m.onnx",
            tokenizer=tokenizer.to_str(),
            card="",
        )
    )


def test_explaining_twice_is_the_same(tiny_classifier: Classifier) -> None:
    first, second = (tiny_classifier.explain(ARTICLES[0]) for _ in range(2))
    assert first.to_json() == second.to_json()


def test_all_tasks_at_once_are_as_each_alone(tiny_classifier: Classifier) -> None:
    both = tiny_classifier.explain(ARTICLES[0])
    alone = tiny_classifier.explain(ARTICLES[0], tasks=["mood"])
    assert alone.tasks == ("mood",)
    np.testing.assert_allclose(both.effects("mood"), alone.effects("mood"), atol=1e-6)
    with pytest.raises(InputError, match="was not asked for"):
        alone.effects("section")


def test_a_label_can_be_chosen(tiny_classifier: Classifier) -> None:
    found = tiny_classifier.explain("goal cup", labels={"section": "business"})
    assert found.chosen["section"] == "business"
    total = sum(found.effects("section", label) for label in ("business", "science", "sports"))
    np.testing.assert_allclose(total, 0, atol=1e-9)  # what one label gains, the others lose


def test_json(tiny_classifier: Classifier) -> None:
    found = tiny_classifier.explain(Article("goal cup", "the city"))
    content = json.loads(json.dumps(found.to_json()))
    assert content["words"][2] == {"text": "the", "part": "body", "start": 0, "end": 3}
    assert list(content["tasks"]) == ["section", "mood"]
    mood = content["tasks"]["mood"]
    assert (mood["label"], mood["score"]) == (found.chosen["mood"], found.score("mood"))
    np.testing.assert_allclose(mood["effects"], found.effects("mood"), atol=1e-6)
    assert (content["words_together"], content["truncated"]) == (1, False)


# --- wrong usage ----------------------------------------------------------------------------------


def test_wrong_usage(tiny_classifier: Classifier) -> None:
    with pytest.raises(LabelError, match="no task 'sections'; there are: section, mood"):
        tiny_classifier.explain("goal", tasks=["sections"])
    with pytest.raises(LabelError, match="no label 'sport'; it has: business, science, sports"):
        tiny_classifier.explain("goal", labels={"section": "sport"})
    with pytest.raises(InputError, match="a label is given for 'section'; asked for: mood"):
        tiny_classifier.explain("goal", tasks=["mood"], labels={"section": "sports"})
    with pytest.raises(InputError, match="max_passes is 1; at least 2"):
        tiny_classifier.explain("goal", max_passes=1)
    with pytest.raises(InputError, match="given as list"):
        tiny_classifier.explain(["goal"])  # type: ignore[arg-type]
    with pytest.raises(LabelError, match="no label 'x'"):
        tiny_classifier.explain("goal").effects("section", "x")


@pytest.mark.parametrize("text", ["", " \n", "\0", "<br>"])
def test_no_text(tiny_classifier: Classifier, text: str) -> None:
    with pytest.raises(InputError, match="neither a headline nor a body"):
        tiny_classifier.explain(text)


def test_at_least_one_word(tiny_classifier: Classifier) -> None:
    with pytest.raises(InputError, match="k is 0; at least 1 word"):
        tiny_classifier.explain("goal").strongest("section", 0)


# --- words and where they stand -------------------------------------------------------------------


def test_words_stand_where_they_were_given() -> None:
    article = Article("  Goal:  the\tcup!", "Keeper, of\n\nthe city.")
    words = words_of(article)
    assert [word.text for word in words] == [
        "Goal:",
        "the",
        "cup!",
        "Keeper,",
        "of",
        "the",
        "city.",
    ]
    assert [word.part for word in words] == ["headline"] * 3 + ["body"] * 4
    assert [given_text(article, word) for word in words] == [word.text for word in words]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("<p>goal <b>cup</b>, match</p>", ["goal", "cup</b>,", "match"]),
        ("caf&eacute; &amp;amp; cup", ["caf&eacute;", "&amp;amp;", "cup"]),
        ("<!-- cup goal --><style>cup{}</style>goal cup", ["goal", "cup"]),
        ("&lt;p&gt;goal&lt;/p&gt; cup", ["&lt;p&gt;goal&lt;/p&gt;", "cup"]),
        ("go\u00adal\u200b cup", ["go\u00adal\u200b", "cup"]),
        ("g<i>o</i>al cup", ["g<i>o</i>al", "cup"]),
        ("cafe\u0301 cup", ["cafe\u0301", "cup"]),
    ],
)
def test_words_are_found_in_texts_that_needed_cleaning(given: str, found: list[str]) -> None:
    article = Article("", given)
    assert [given_text(article, word) for word in words_of(article)] == found


def test_a_word_that_cannot_be_found_does_not_lose_the_next() -> None:
    article = Article("g<i>o</i>a<b>l</b>s<u>!</u> cup")
    first, second = words_of(article)
    assert (first.text, first.start, first.end) == ("goals!", None, None)
    assert given_text(article, second) == "cup"


def test_the_name_of_the_site_is_not_read(tiny_classifier: Classifier) -> None:
    found = tiny_classifier.explain("goal cup - Tiny Times\nthe city")
    assert [word.text for word in found.words] == ["goal", "cup", "the", "city"]


def test_characters_without_blanks_are_words() -> None:
    assert [word.text for word in words_of(Article("東京 goal"))] == ["東", "京", "goal"]


@given(st.text(), st.text())
def test_any_text_is_explained_at_places_that_exist(headline: str, body: str) -> None:
    article = Article(headline, body)
    try:
        words = words_of(article)
    except InputError:
        return
    last = {"headline": 0, "body": 0}
    for word in words:
        if word.start is not None and word.end is not None:
            text = headline if word.part == "headline" else body
            assert last[word.part] <= word.start < word.end <= len(text)
            last[word.part] = word.end


@given(st.lists(st.text("abcgoal.,!?'", min_size=1), min_size=1), st.data())
def test_plain_text_is_always_found(words: list[str], data: st.DataObject) -> None:
    blanks = st.text(" \t\n\u00a0", min_size=1, max_size=3)
    article = Article("", "".join(word + data.draw(blanks) for word in words))
    found = words_of(article, max_tokens=10_000, max_words=10_000)
    assert [word.text for word in found] == words
    assert [given_text(article, word) for word in found] == words


# --- long articles --------------------------------------------------------------------------------


def test_what_is_cut_off_is_no_word(tiny_classifier: Classifier) -> None:
    found = tiny_classifier.explain(Article("cup", "goal " * 40))
    assert found.truncated
    assert len(found.words) == 30  # of 32 tokens, the first and the last are special
    assert found.words[-1].end == 29 * 5 - 1
    assert not tiny_classifier.explain(Article("cup", "goal " * 5)).truncated


def test_words_of_long_articles_are_taken_together(tiny_classifier: Classifier) -> None:
    article = Article("cup of the city", "goal " * 26)
    found = tiny_classifier.explain(article, max_passes=12)
    assert (found.words_together, len(found.words)) == (3, 2 + 9)
    assert [word.text for word in found.words[:3]] == ["cup of the", "city", "goal goal goal"]
    assert [word.part for word in found.words[:3]] == ["headline", "headline", "body"]
    assert given_text(article, found.words[2]) == "goal goal goal"
    (without,) = tiny_classifier.classify([Article("city", article.body)])
    label = found.chosen["section"]
    wanted = found.score("section") - without.scores["section"][label]
    assert found.effects("section")[0] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("passes", [2, 3, 5, 30, 128])
def test_passes_are_bounded(tiny_classifier: Classifier, passes: int) -> None:
    found = tiny_classifier.explain("cup\n" + "goal " * 200, max_passes=passes)
    assert len(found.words) <= passes
    assert sum(len(word.text.split()) for word in found.words) == 30


@pytest.mark.parametrize("text", ["a" * 10_000_000, "goal " * 2_000_000, "<i>" * 100_000 + "goal"])
def test_enormous_texts(tiny_classifier: Classifier, text: str) -> None:
    assert isinstance(tiny_classifier.explain(Article("", text), max_passes=2), Explanation)


@pytest.mark.parametrize("text", ["\ufffd", "\ufffd" * 5_000])
def test_characters_that_the_tokenizer_drops_are_no_words(
    tiny_classifier: Classifier, text: str
) -> None:
    found = tiny_classifier.explain(text)
    assert found.words == ()
    assert found.effects("section").shape == (0,)
    assert found.strongest("mood") == []
    assert found.to_json()["tasks"]["mood"]["effects"] == []


# --- occlusion ------------------------------------------------------------------------------------


def test_occlude() -> None:
    owners = np.array([NO_WORD, 0, 0, 1, NO_WORD])
    assert list(occlude([2, 7, 8, 9, 3], owners, 2)) == [[2, 9, 3], [2, 7, 8, 3]]
    assert list(occlude([2, 7, 8, 9, 3], owners, 2, mask_id=1)) == [
        [2, 1, 1, 9, 3],
        [2, 7, 8, 1, 3],
    ]


def test_tokens_belong_to_the_words_that_hold_them() -> None:
    article = Article("goals: 12", "the cup")
    read = Encoder(tiny_tokenizer(), EncodingPolicy(64)).read(article)
    words, owners, _ = split_words(read, article, 128)
    tokens = [str(tiny_tokenizer().id_to_token(i)) for i in read.ids]
    spelt = [
        "".join(t.removeprefix("##") for t, owner in zip(tokens, owners, strict=True) if owner == i)
        for i in range(len(words))
    ]
    assert len(tokens) > len(words) + 2
    # ":" is not among the tiny words, and so makes its part unknown
    assert [text.replace("[UNK]", ":") for text in spelt] == [word.text for word in words]


def test_read_gives_the_tokens_that_encode_gives() -> None:
    tool = Encoder(tiny_tokenizer(), EncodingPolicy(24, ("Tiny Times",)))
    odd = [
        Article("cup - Tiny Times", "x"),
        Article("", "goal"),
        Article("<b>goal</b>", "a " * 900),
    ]
    for article in [*ARTICLES, *odd]:
        encoded, read = tool.encode([article]), tool.read(article)
        assert (encoded.ids, encoded.truncated.tolist()) == ([read.ids], [read.truncated])
