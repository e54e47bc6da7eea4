from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from newsie.data.articles import Article
from newsie.data.encoding import Encoder, EncodingPolicy, pad, view_text
from newsie.errors import BundleError, InputError
from tests.tiny import PANICS, panicking_tokenizer, tiny_articles, tiny_tokenizer

CLS, SEP = 2, 3


def encoder(max_tokens: int = 16, *suffixes: str) -> Encoder:
    return Encoder(tiny_tokenizer(), EncodingPolicy(max_tokens, suffixes))


def test_views_are_headline_and_body_or_the_headline_alone() -> None:
    both = Article("goal", "the match")
    assert view_text(both, "full") == "goal\nthe match"
    assert view_text(both, "headline") == "goal"
    assert view_text(Article("", "the match"), "headline") == "the match"
    assert view_text(Article("goal"), "full") == "goal"


def test_ids_are_the_tokens_between_the_special_ones() -> None:
    tool = encoder()
    [ids], _ = tool.encode([Article("Goal,&nbsp; match")])
    assert (ids[0], ids[-1]) == (CLS, SEP)
    assert tool.tokenizer.decode(ids) == "[CLS] goal , match [SEP]"


def test_outlets_at_the_end_of_headlines_are_removed() -> None:
    tool = encoder(16, "Tiny Times")
    plain, named = tool.encode([Article("goal match"), Article("goal match - Tiny Times")]).ids
    assert plain == named


def test_long_text_is_cut_and_says_so() -> None:
    ids, truncated = encoder(8).encode([Article("goal " * 6), Article("goal " * 7)])
    assert [len(row) for row in ids] == [8, 8]
    assert truncated.tolist() == [False, True]


def test_the_cut_before_tokenising_changes_no_token() -> None:
    tool = encoder(64)
    text = " ".join(f"{article.headline} {article.body}" for article in tiny_articles(40))
    [short], [whole] = tool.encode([Article("", text)]).ids, tool.tokenizer.encode_batch([text])
    assert short == whole.ids


MARKUP = [
    " " * 9_000,
    "\u200b" * 9_000,
    f"<style>{'p { margin: 0 } ' * 700}</style>",
    f"<STYLE type=x>{'p > a { margin: 0 } ' * 9_000}</STYLE >",
    f"&lt;script&gt;{'if (a < b) { c() } ' * 700}&lt;/script&gt;",
    f"<!-- {'match ' * 2_000} -->",
    f'<img src="data:{"x" * 10_000}">',
    "<i></i>" * 2_000,
    "&nbsp;" * 5_000,
    "&amp;nbsp;" * 5_001,
]


@pytest.mark.parametrize("markup", MARKUP, ids=range(len(MARKUP)))
@pytest.mark.parametrize("field", ["headline", "body"])
def test_text_is_found_behind_any_length_of_markup(markup: str, field: str) -> None:
    tool = encoder()
    [plain] = tool.encode([Article("goal")]).ids
    for text in (f"{markup} goal", f"goal {markup}"):
        article = Article(text) if field == "headline" else Article("", text)
        [ids], truncated = tool.encode([article])
        assert (ids, truncated.tolist()) == (plain, [False])
    [ids], truncated = tool.encode([Article(f"goal {markup} " + "cup " * 20)])
    assert truncated.tolist() == [True]
    assert ids == tool.encode([Article("goal " + "cup " * 20)]).ids[0]


@pytest.mark.parametrize(
    "article", [Article(""), Article(" \n\t "), Article("\x00\x00"), Article("<p></p>", "&nbsp;")]
)
def test_an_article_without_text_is_an_error(article: Article) -> None:
    with pytest.raises(InputError, match="article number 2 has neither a headline nor a body"):
        encoder().encode([Article("goal"), article])
    named = Article(article.headline, article.body, id="a7")
    with pytest.raises(InputError, match="article 'a7' has neither"):
        encoder().encode([named])


@given(st.text(max_size=200))
def test_any_text_is_encoded_or_refused(text: str) -> None:
    try:
        [ids], _ = encoder().encode([Article(text)])
    except InputError:
        return
    assert 2 <= len(ids) <= 16  # a tokenizer may drop private and unassigned characters
    assert (ids[0], ids[-1]) == (CLS, SEP)


@pytest.mark.parametrize("text", ["goal " * 2_000_000, "x" * 10_000_000, "<" * 10_000_000])
def test_ten_megabytes_cost_little(text: str) -> None:
    start = time.process_time()
    [ids], truncated = encoder().encode([Article("goal", text)])
    assert len(ids) <= 16
    assert truncated.all()
    assert time.process_time() - start < 5  # not a measurement: quadratic work would take hours


def test_padding() -> None:
    input_ids, attention_mask = pad([[2, 9, 3], [2, 3]], pad_id=7)
    np.testing.assert_array_equal(input_ids, [[2, 9, 3], [2, 3, 7]])
    np.testing.assert_array_equal(attention_mask, [[1, 1, 1], [1, 1, 0]])
    assert pad([], 0)[0].shape == (0, 0)


def test_policy_comes_back_from_json() -> None:
    policy = EncodingPolicy(99, ("BBC News",))
    assert EncodingPolicy.from_json(policy.to_json()) == policy


def test_pad_id_is_the_tokenizers() -> None:
    assert encoder().pad_id == 0


@pytest.mark.parametrize("part", ["pre-tokenizer", "normalizer"])
def test_a_panic_of_the_tokenizer_names_the_article(part: str) -> None:
    tool = Encoder(panicking_tokenizer(part), EncodingPolicy(64))
    with pytest.raises(BundleError, match=r"tokenizer\.json fails on article number 7: leave"):
        tool.encode([Article("goal"), Article(PANICS), Article("goal")], first=6)
    with pytest.raises(BundleError, match=r"tokenizer\.json fails on article 'a7'"):
        tool.read(Article(PANICS, id="a7"))
    assert len(tool.encode([Article("goal")]).ids) == 1  # it still works


def test_an_error_of_the_tokenizer_names_the_article() -> None:
    tool = Encoder(Tokenizer(WordPiece({"a": 0}, unk_token="[UNK]")), EncodingPolicy(64))
    with pytest.raises(BundleError, match=r"article number 2: .*Missing \[UNK\] token"):
        tool.encode([Article("a"), Article("b")])


def test_an_interruption_is_no_fault_of_the_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = encoder()
    for interruption in (KeyboardInterrupt, SystemExit):

        def interrupt(_: object, kind: type[BaseException] = interruption) -> None:
            raise kind

        monkeypatch.setattr(tool, "_tokenize", interrupt)
        with pytest.raises(interruption):
            tool.encode([Article("goal")])


def test_a_file_that_holds_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json cannot be used"):
        Encoder.from_file(tmp_path / "tokenizer.json", EncodingPolicy(64))
