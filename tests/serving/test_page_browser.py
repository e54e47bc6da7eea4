"""The page in a real browser, against a real server of the bundled student."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from newsie import Article, Classifier
from newsie.data.readers import ArticleReader
from tests.browser import PHONE, open_browser, open_page
from tests.serving.live import Live, live
from tests.serving.test_page import constant

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = pytest.mark.slow

KEY = "0123456789abcdef0123456789abcdef"
HOSTILE = "<img src=x onerror='window.hacked = 1'> <b>Cup</b> 🏆 final & more"
EXAMPLES = constant("EXAMPLES")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.from_pretrained(threads=1)


@pytest.fixture(scope="module")
def server(classifier: Classifier) -> Iterator[Live]:
    with live(classifier, max_article_characters=5_000) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, server: Live) -> Iterator[Page]:
    with open_page(browser, server.url) as opened:
        yield opened


@pytest.fixture
def page_with_refusals(browser: Browser, server: Live) -> Iterator[Page]:
    """A page on which a browser may note that requests were refused: it does so as an error."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url)
    yield page
    context.close()


def classify(page: Page, headline: str, body: str = "") -> None:
    page.get_by_label("Headline").fill(headline)
    page.get_by_label("Story").fill(body)
    page.get_by_role("button", name="Classify").click()
    page.get_by_text("Answered in").wait_for()


def drop(page: Page, path: Path) -> None:
    from playwright.sync_api import expect

    page.locator("#file").set_input_files(path)
    page.locator("#stop").wait_for(state="hidden")
    # Not wait_for_function, which evaluates text: the page's policy forbids that.
    expect(page.locator("#batch-status")).not_to_have_text(
        re.compile(r"reading…| of \d"), timeout=60_000
    )


def test_an_example_is_answered_as_the_classifier_does(page: Page, classifier: Classifier) -> None:
    example = EXAMPLES[0]
    page.get_by_role("button", name=example["headline"]).click()
    page.get_by_text("Answered in").wait_for()
    (prediction,) = classifier.classify([Article(example["headline"], example["body"])])
    assert page.get_by_label("Headline").input_value() == example["headline"]
    best, score = prediction.top("section", 1)[0]
    assert page.locator("#verdict").inner_text().lower().split() == [
        best,
        f"{100 * score:.0f}",
        "%",
    ]
    shown = page.locator("#main-bars li .name").all_inner_texts()
    assert shown == [label for label, _ in prediction.top("section", 5)]
    width = page.locator("#main-bars .fill").first.evaluate("e => parseFloat(e.style.width)")
    assert width == pytest.approx(100 * score, abs=2)
    for name, task in ((".broad", "broadsheet"), (".tab", "tabloid")):
        pick = page.locator(f"#press {name} .pick").inner_text().lower()
        assert pick == prediction.label(task)
    note = page.locator(".press-note").inner_text()
    assert prediction.label("broadsheet") in note
    rest = page.locator("#tasks h3").all_inner_texts()
    assert len(rest) == len(classifier.tasks) - 3


def test_all_labels_can_be_seen(page: Page, classifier: Classifier) -> None:
    classify(page, EXAMPLES[1]["headline"])
    more = page.locator("#main-bars").get_by_role("button", name="All 14 labels")
    more.click()
    assert page.locator("#main-bars li").count() == 14
    page.locator("#main-bars").get_by_role("button", name="Fewer").click()
    assert page.locator("#main-bars li").count() == 5


def test_with_the_keyboard_alone(page: Page) -> None:
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the link to the headline
    page.keyboard.type("Rovers win the cup final on penalties")
    page.keyboard.press("Enter")
    page.get_by_text("Answered in").wait_for()
    assert page.locator("#verdict").inner_text().startswith("Sports")
    assert page.locator("#status").get_attribute("aria-live") == "polite"
    page.keyboard.press("Tab")
    page.keyboard.type("A body.")
    assert page.get_by_label("Story").input_value() == "A body."
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # Classify, Copy link, Clear
    assert page.get_by_label("Headline").input_value() == ""
    assert not page.locator("#result").is_visible()
    assert page.locator("#headline").evaluate("e => e === document.activeElement")


def test_nothing_to_classify_is_said(page: Page) -> None:
    page.get_by_role("button", name="Classify").click()
    page.get_by_text("There is nothing to classify yet").wait_for()
    assert page.locator("#headline").evaluate("e => e === document.activeElement")


def test_what_comes_in_stays_text(page: Page, tmp_path: Path) -> None:
    classify(page, HOSTILE, HOSTILE)
    page.get_by_role("button", name="Colour the words").click()
    page.locator(".words").wait_for()
    # Every character is shown, in order, whatever is coloured.
    assert page.locator(".words .top").text_content() == HOSTILE
    assert page.locator(".words").text_content() == HOSTILE + HOSTILE
    file = tmp_path / "hostile.csv"
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([["headline", "body"], [HOSTILE, ""], ["", ""]])
    drop(page, file)
    page.locator("td .clipping").first.wait_for()
    assert page.locator("td .clipping").all_inner_texts() == [HOSTILE]
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0


def test_words_are_coloured_for_every_question(page: Page, classifier: Classifier) -> None:
    example = EXAMPLES[0]
    classify(page, example["headline"], example["body"])
    page.get_by_role("button", name="Colour the words").click()
    page.locator(".words mark").first.wait_for()
    explanation = classifier.explain(Article(example["headline"], example["body"]))
    for task in classifier.tasks:
        page.get_by_label("Question").select_option(task)
        said = page.locator("#explain-status").inner_text()
        assert explanation.chosen[task].replace("_", " ") in said
        strongest = max(explanation.strongest(task), key=lambda pair: pair[1])
        assert f"“{strongest[0].text}” (+{100 * strongest[1]:.1f} points)" in said
    mark = page.locator(".words mark").first
    assert "points" in (mark.get_attribute("title") or "")
    assert mark.evaluate("e => getComputedStyle(e).backgroundColor") != "rgba(0, 0, 0, 0)"


def test_a_link_keeps_its_text_to_itself(page: Page, browser: Browser, server: Live) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    classify(page, "Rain & sun: “what” a day? 🌦", "100 % of it\nin two lines")
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("sent to no server").wait_for()
    link = page.url
    assert "#headline=" in link
    with open_page(browser, link) as opened:
        opened.on("request", lambda request: asked.append(request.url))
        opened.get_by_text("Answered in").wait_for()
        assert opened.get_by_label("Headline").input_value() == "Rain & sun: “what” a day? 🌦"
        assert opened.get_by_label("Story").input_value() == "100 % of it\nin two lines"
    assert asked
    assert {url.split("#")[0] for url in asked} <= {
        f"{server.url}/{path}" for path in ("", "info", "v1/classify", "v1/explain")
    }


def test_a_link_is_bounded(page: Page, browser: Browser, server: Live) -> None:
    page.get_by_label("Story").fill("word " * 3_000)
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("Too long for a link").wait_for()
    assert "#" not in page.url
    with open_page(browser, f"{server.url}/#headline={'x' * 9_000}") as opened:
        opened.get_by_text("This link is too long").wait_for()
        assert opened.get_by_label("Headline").input_value() == ""


def test_an_error_of_the_server_is_shown(page_with_refusals: Page) -> None:
    page = page_with_refusals
    page.get_by_label("Headline").fill("x" * 6_000)
    page.get_by_role("button", name="Classify").click()
    message = page.get_by_text("has 6,000 characters; at most 5,000")
    message.wait_for()
    assert message.is_visible()


ROWS = [
    ["Title", "Text", "ID"],
    ['The "cup", at last', "Two lines\nand a comma, too", "a"],
    ["", "", "b"],
    ["Only two fields", "x"],
    ["Shares fall", "", "c"],
    ["Too long", "y" * 5_100, "d"],
    ["Comet seen over the observatory", "", "e"],
]


def test_a_file_of_articles(
    page_with_refusals: Page, tmp_path: Path, classifier: Classifier
) -> None:
    page, file = page_with_refusals, tmp_path / "news.csv"
    with file.open("w", encoding="utf-8-sig", newline="") as opened:
        csv.writer(opened).writerows(ROWS)
    drop(page, file)
    said = page.locator("#batch-status").inner_text()
    assert said == (
        "news.csv: 5 articles classified, 1 row skipped. "
        "Columns: headline ← Title, body ← Text, id ← ID."
    )
    problems = page.locator(".problems li").all_inner_texts()
    assert "1 × cut to its first 5,000 characters" in problems
    assert problems[-1] == "Row 2: no text"
    articles = [Article(ROWS[row][0], ROWS[row][1]) for row in (1, 3, 4, 5, 6)]
    expected = classifier.classify(articles)
    assert page.locator("td.number").all_inner_texts() == ["1", "3", "4", "5", "6"]

    text = downloaded(page, "CSV", "news-classified.csv").removeprefix("\ufeff")
    answered = list(csv.DictReader(text.splitlines(True)))
    assert [row["row"] for row in answered] == ["1", "3", "4", "5", "6"]
    assert [row["id"] for row in answered] == ["a", "", "c", "d", "e"]
    assert [row["headline"] for row in answered] == [article.headline for article in articles]
    for row, prediction in zip(answered, expected, strict=True):
        for task in classifier.tasks:
            assert row[task] == prediction.label(task)
            assert float(row[f"{task}_score"]) == pytest.approx(
                prediction.confidence(task), abs=0.02
            )

    lines = downloaded(page, "JSONL", "news-classified.jsonl").splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["row"] for record in records] == [1, 3, 4, 5, 6]
    assert [len(record["predictions"]["section"]) for record in records] == [3] * 5

    page.get_by_role("button", name="Shares fall").click()
    page.get_by_text("Answered in").wait_for()
    assert page.get_by_label("Headline").input_value() == "Shares fall"


def downloaded(page: Page, kind: str, name: str) -> str:
    with page.expect_download() as download:
        page.get_by_role("button", name=f"Download {kind}").click()
    assert download.value.suggested_filename == name
    return Path(download.value.path()).read_bytes().decode()


def test_json_lines_are_read_too(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "news.jsonl"
    lines = [
        '{"headline": "Goal", "id": 7}',
        '"A headline alone"',
        "",
        "{broken",
        "[1]",
        '{"x": 1}',
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    drop(page, file)
    reader = ArticleReader(file)
    articles = list(reader)
    assert [article.headline for article in articles] == ["Goal"]
    said = page.locator("#batch-status").inner_text()
    assert f"1 article classified, {len(reader.problems)} rows skipped" in said
    problems = page.locator(".problems li").all_inner_texts()
    expected = [f"Row {problem.row}" for problem in reader.problems.examples]
    assert [problem.split(":")[0] for problem in problems] == sorted(expected)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"name,price\nx,1\n", "no column with text; the columns are: name, price"),
        ("a.pdf", b"%PDF-1.7", "a PDF file"),
        ("a.parquet", b"PAR1" + bytes(20), "is Parquet or Arrow"),
    ],
)
def test_files_that_cannot_be_read(
    page_with_refusals: Page, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    page, file = page_with_refusals, tmp_path / name
    file.write_bytes(content)
    drop(page, file)
    assert message in page.locator("#batch-status").inner_text()
    assert not page.locator("#csv").is_visible()


def test_columns_can_be_chosen(page_with_refusals: Page, tmp_path: Path) -> None:
    page, file = page_with_refusals, tmp_path / "odd.csv"
    file.write_bytes("Zeile;Fließ\r\nDer Café-Streit;Mehr dazu\r\n".encode("cp1252"))
    drop(page, file)
    assert "no column with text" in page.locator("#batch-status").inner_text()
    page.get_by_label("Title column").fill("Zeile")
    page.get_by_label("Text column").fill("Fließ")
    page.get_by_role("button", name="Read again").click()
    page.get_by_text("Columns: headline ← Zeile, body ← Fließ").wait_for()
    page.get_by_role("button", name="Der Café-Streit").wait_for()
    assert "not UTF-8, read as Windows-1252" in page.locator(".problems").inner_text()


def test_names_of_a_file_stay_on_one_line(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "\u202efdp.csv"
    file.write_text('"headline","a\nb"\n"=1+1 wins","x"\n', encoding="utf-8")
    drop(page, file)
    said = page.locator("#batch-status").inner_text()
    assert said.startswith(r"\u202efdp.csv: 1 article classified")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert "'=1+1 wins" in Path(download.value.path()).read_text("utf-8-sig")


def test_a_file_waits_where_the_server_is_busy(
    browser: Browser, classifier: Classifier, tmp_path: Path
) -> None:
    file = tmp_path / "many.csv"
    rows = [f"Rain stops play on day {number}" for number in range(200)]
    file.write_text("\n".join(["headline", *rows]), encoding="utf-8")
    with live(classifier, max_concurrent_requests=1) as busy:
        context = browser.new_context()
        page = context.new_page()
        page.goto(busy.url)
        drop(page, file)
        said = page.locator("#batch-status").inner_text()
        context.close()
        assert said == "many.csv: 200 articles classified. Columns: headline ← headline."
        assert busy.samples("newsie_rejected_total").get('reason="overloaded"', 0) > 0


def test_a_key_is_asked_for_and_kept_in_memory(
    browser: Browser, server: Live, classifier: Classifier
) -> None:
    """The page comes from a server without a key; a balancer sends questions to one that has one."""
    with live(classifier, api_key=KEY) as locked:
        context = browser.new_context()
        page = context.new_page()

        def pass_on(route: Route) -> None:
            path = route.request.url.split("/", 3)[3]
            route.fulfill(response=route.fetch(url=f"{locked.url}/{path}"))

        page.route("**/v1/*", pass_on)
        page.goto(server.url)
        page.get_by_label("Headline").fill("Rain stops play")
        page.get_by_role("button", name="Classify").click()
        field = page.get_by_label("This server asks for a key")
        field.wait_for()
        assert field.evaluate("e => e === document.activeElement")
        field.fill("wrong")
        page.get_by_role("button", name="Use it").click()
        page.get_by_text("does not accept this key").wait_for()
        field.fill(KEY)
        field.press("Enter")
        page.get_by_text("Answered in").wait_for()
        assert not field.is_visible()
        assert page.evaluate("localStorage.length + sessionStorage.length") == 0
        assert page.evaluate("document.cookie") == ""
        context.close()


def test_a_browser_opens_a_locked_server_with_the_key_as_password(
    browser: Browser, classifier: Classifier
) -> None:
    with live(classifier, api_key=KEY) as locked:
        context = browser.new_context(http_credentials={"username": "anybody", "password": KEY})
        page = context.new_page()
        page.goto(locked.url)
        classify(page, "Rain stops play at the Oval")
        assert page.locator("#verdict").inner_text().startswith("Sports")
        context.close()


def test_on_a_phone_nothing_is_wider_than_the_screen(
    browser: Browser, server: Live, tmp_path: Path
) -> None:
    file = tmp_path / "long.csv"
    short = EXAMPLES[0]["headline"]
    file.write_text(f'headline\n{"W" * 300}\n"{short}"\n', encoding="utf-8")
    with open_page(browser, server.url, size=PHONE) as page:
        width = "document.documentElement.scrollWidth"
        assert page.evaluate(width) == PHONE[0]
        classify(page, "W" * 300, EXAMPLES[0]["body"])
        page.get_by_role("button", name="Colour the words").click()
        page.locator(".words").wait_for()
        drop(page, file)
        assert page.evaluate(width) == PHONE[0]
        # The table can be pushed sideways, but its first answer is seen without that.
        answers = page.locator("#batch-result tbody td:nth-child(3)")
        for box in [one.bounding_box() for one in answers.all()]:
            assert box is not None
            assert box["x"] + box["width"] <= PHONE[0]
        for button in page.locator("button:visible:not(.text-button)").all():
            box = button.bounding_box()
            assert box is not None
            assert box["height"] >= 44  # https://www.w3.org/TR/WCAG22/#target-size-enhanced


def test_light_dark_and_less_motion(browser: Browser, server: Live) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        with open_page(browser, server.url, scheme=scheme) as page:
            grounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert grounds == {"light": "rgb(251, 249, 244)", "dark": "rgb(22, 21, 19)"}
    with open_page(browser, server.url) as page:
        page.emulate_media(reduced_motion="reduce")
        classify(page, "Rain stops play")
        fill = page.locator("#main-bars .fill").first
        assert fill.evaluate("e => getComputedStyle(e).transitionDuration") == "0s"
