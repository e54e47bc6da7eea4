from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsie.data import cleaning
from newsie.data.cleaning import (
    blank_markup,
    clean_start,
    clean_text,
    learn_site_suffixes,
    strip_site_suffix,
)
from newsie.errors import InputError

any_text = st.text(st.characters(codec=None), max_size=200)
markup = st.lists(
    st.sampled_from(
        [
            *(
                "<",
                ">",
                "/",
                "&",
                ";",
                "amp",
                "lt",
                "#60",
                "<b>",
                "</p>",
                "<!--",
                "-->",
                "<script>",
            ),
            *("</script>", "=", '"', " ", "\n", "a", "é", "e\u0301", "\u200b", "\ud800", "]]>"),
        ]
    ),
    max_size=40,
).map("".join)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Council votes to keep the library open",
        "5 < 6 and 7 > 3",
        "I <3 you",
        "if x <b and c> d then",
        "tokens such as <unk> and <Insert name here>",
        "write to <desk@example.org>",
        "AT&T, R&D and M&S; fish&notice",
        "no such &entity; nor &notice;",
        "Café à la carte – “naïve” 100 €",
        "日本の図書館",
        "👍🏽 well done",
    ],
)
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert clean_text(text) == text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  two \t lines\r\n\r\nhere ", "two lines here"),
        ("non\u00a0breaking\u2003and\u2028other spaces", "non breaking and other spaces"),
        ("<p>One.</p><p>Two.</p>", "One. Two."),
        ("un<b>believ</b>able", "unbelievable"),
        ('<a href="https://example.org/?a=b" class=x>Read</a> more', "Read more"),
        ("line<br/>break<BR >again<hr>", "line break again"),
        ("a<!-- a comment with <b>tags</b> -->b", "a b"),
        ("a<Script type='x'>if (a < b) { c(); }</SCRIPT>b", "a b"),
        ("a<style>p { color: red }</style>b", "a b"),
        ("an open <!-- comment", "an open <!-- comment"),
        ("<![CDATA[The headline]]>", "The headline"),
        ("<!DOCTYPE html><html><body>x</body></html>", "x"),
        ("<custom-tag>x</custom-tag> <o:p>y</o:p>", "x y"),
        ("Q&amp;A", "Q&A"),
        ("&ldquo;Yes&rdquo; &#8211; &#x2013; &hellip;", "“Yes” – – …"),
        ("Q&amp;amp;A", "Q&A"),
        ("&amp;amp;amp;quot;x&amp;quot;", '"x"'),
        ("&#38;#38;lt;3", "<3"),
        ("&lt;p&gt;escaped &lt;b&gt;markup&lt;/b&gt;&lt;/p&gt;", "escaped markup"),
        ("soft&shy;hyphen zero&#8203;width", "softhyphen zerowidth"),
        ("\ufeffwith a mark", "with a mark"),
        ("zero\u200bwidth\u2060 joi\u200dner", "zerowidth joiner"),
        ("nul\x00 bell\x07 escape\x1b[0m", "nul bell escape [0m"),
        ("half \ud83d a pair", "half a pair"),
        ("e\u0301te\u0301", "été"),
        ("A\u030angstro\u0308m", "Ångström"),
        ("\u200b\x00\ud800 <br>&nbsp;", ""),
    ],
)
def test_cleaning(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


@given(st.one_of(any_text, markup))
def test_what_comes_out_is_one_line_of_readable_text(text: str) -> None:
    cleaned = clean_text(text)
    assert cleaned == " ".join(cleaned.split())
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not {unicodedata.category(c) for c in cleaned} & {"Cc", "Cs"}
    cleaned.encode("utf-8")


@given(any_text.filter(lambda text: not set("<&") & set(text)))
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)


@given(st.text(st.characters(categories=["L", "N"]), min_size=1))
def test_letters_and_digits_are_kept(text: str) -> None:
    invisible = "\u115f\u1160\u3164\uffa0"  # fillers: letters by category, blank on the screen
    kept = "".join(c for c in text if c not in invisible)
    assert clean_text(text) == unicodedata.normalize("NFC", kept)


HOSTILE = {
    "open brackets": "<" * 1_000_000,
    "open tags": "<b " * 400_000,
    "tags within tags": "<b" * 400_000 + ">" * 400_000,
    "attributes": "<a " + "=" * 1_000_000,
    "names": "<" + "a-" * 1_000_000,
    "open comments": "<!--" * 400_000,
    "open scripts": "<script>" * 200_000,
    "comments and open scripts": "<!-- --><script>" * 100_000,
    "ampersands": "&" * 1_000_000,
    "escaped ampersands": "&" + "amp;" * 1_000_000,
    "escaped brackets": "&lt;" * 500_000,
    "blanks": "<p" + " " * 1_000_000,
    "combining marks": "a" + "\u0300\u0327" * 500_000,
    "one word": "x" * 4_000_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_takes_time_in_proportion(text: str) -> None:
    start = time.process_time()
    clean_text(text)
    assert time.process_time() - start < 10  # not a measurement: hours if it were quadratic


PIECES = (
    *(
        "goal ",
        "  ",
        "\u200b",
        "<b>",
        "</b>",
        "<br/>",
        "<3",
        " < ",
        "&amp;",
        "&amp;nbsp;",
        "&nbsp;",
    ),
    *("<!--", "-->", "<style>", "</style>", "<script a='b'>", "</script >", "<a href='x'>", "é"),
    *("e\u0301", "&lt;style&gt;", "&#60;", "<![CDATA[x]]>", "&", "\U0001f389", "\u1100\u1161"),
)


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.integers(1, 60))), st.integers(1, 40))
def test_the_start_of_a_clean_text(pieces: list[tuple[str, int]], characters: int) -> None:
    text = "".join(piece * times for piece, times in pieces)
    whole, start = clean_text(text), clean_start(text, characters)
    assert start[:characters] == whole[:characters]
    assert len(start) > characters or start == whole


def test_the_start_of_a_hostile_text_takes_time_in_proportion_too() -> None:
    for text in (*HOSTILE.values(), "<style>" + "x" * 1_000_000, "&nbsp;" * 200_000 + "x"):
        start = time.process_time()
        assert clean_start(text, 2_048)[:2_048] == clean_text(text)[:2_048]
        assert time.process_time() - start < 10  # not a measurement: hours if it were quadratic


def test_long_runs_of_combining_marks_are_cut() -> None:
    assert clean_text("a" + "\u0327\u0301" * 1000 + "b") == clean_text(
        "a" + "\u0327\u0301" * 15 + "b"
    )


# --- names of sites -----------------------------------------------------------------------------


def test_suffixes_are_removed_repeatedly() -> None:
    suffixes = frozenset({"The Daily Example", "example.org"})
    assert strip_site_suffix("Rain | The Daily Example - example.org", suffixes) == "Rain"
    assert strip_site_suffix("Rain – The Daily Example", suffixes) == "Rain"
    assert strip_site_suffix("Rain| example.org", suffixes) == "Rain"


@pytest.mark.parametrize(
    "headline",
    [
        "",
        "The Daily Example",
        " - The Daily Example",
        "| The Daily Example",
        "Rain - report",
        "The Daily Example - Rain",
        "Rain -The Daily Example",
        "Rain in The Daily Example",
    ],
)
def test_only_known_endings_behind_some_text_are_removed(headline: str) -> None:
    assert strip_site_suffix(headline, frozenset({"The Daily Example"})) == headline


@given(st.lists(st.sampled_from(["A", "B", "x", " - ", " | ", "|", "-", " "])).map("".join))
def test_a_headline_never_becomes_empty(headline: str) -> None:
    stripped = strip_site_suffix(headline, frozenset({"A", "B", ""}))
    assert headline.startswith(stripped)
    assert bool(stripped.strip()) == bool(headline.strip())


def test_names_of_publishers_are_learnt() -> None:
    headlines = [f"Story {i} - The Daily Example" for i in range(20)]
    headlines += [f"Story {i} - report" for i in range(40)]
    headlines += [f"Story {i} - Live Updates" for i in range(40)]
    headlines += [f"Story {i} | Weather" for i in range(20)]
    headlines += [f"Story {i} - rare.example.org" for i in range(19)]
    headlines += [f"Story {i} - sports.example.org" for i in range(20)]
    publishers = ["daily-example.com"] * 20 + ["Other"] * 139
    found = ("The Daily Example", "Weather", "sports.example.org")
    assert learn_site_suffixes(headlines, publishers) == found
    assert "rare.example.org" in learn_site_suffixes(headlines, publishers, min_count=19)


def test_a_name_behind_another_is_learnt() -> None:
    headlines = [f"Story {i} | The Example - example.org" for i in range(20)]
    assert learn_site_suffixes(headlines) == ("The Example", "example.org")


def test_without_publishers_a_name_is_written_like_one() -> None:
    headlines = [f"Story {i} - The Example Times of Springfield" for i in range(20)]
    headlines += [f"Story {i} - as it happened" for i in range(20)]
    headlines += [f"Story {i} - Report" for i in range(20)]
    assert learn_site_suffixes(headlines) == ("The Example Times of Springfield",)


def test_a_phrase_of_one_publisher_is_not_its_name() -> None:
    headlines = [f"Story {i} - Check Your Stars" for i in range(20)]
    assert learn_site_suffixes(headlines, ["The Daily Example"] * 20) == ()


def test_a_part_of_the_publisher_counts() -> None:
    headlines = [f"Story {i} - Boot Room" for i in range(20)]
    assert learn_site_suffixes(headlines, ["EX - The Boot Room - Football News"] * 20) == (
        "Boot Room",
    )


def test_one_publisher_a_headline() -> None:
    with pytest.raises(InputError, match="1 headlines but 2 publishers"):
        learn_site_suffixes(["a"], ["b", "c"])


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<p>goal <b>cup</b></p>", "   goal    cup        "),
        ("<!-- cup --><style>p{}</style>goal", " " * 30 + "goal"),
        ("5 < 6 and <3", "5 < 6 and <3"),
        ("<!-- without an end", "<!-- without an end"),
    ],
)
def test_blanks_stand_where_markup_stood(text: str, left: str) -> None:
    assert blank_markup(text) == left


def test_what_is_taken_for_plain_is_not_changed_by_the_long_way() -> None:
    def clean(text: str) -> str:
        text = cleaning._INVISIBLE.sub("", text)
        return cleaning._normalise(" ".join(cleaning._UNREADABLE.sub(" ", text).split()))

    texts = [f"é{chr(code)}é{chr(code)}" for code in range(0x20, 0x3100)]
    plain = [text for text in texts if cleaning._is_plain(text)]
    assert len(plain) > 700
    assert list(map(clean, plain)) == plain
    assert not cleaning._is_plain("cafe\u0301")
