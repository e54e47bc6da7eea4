from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from newsie.confusion.analysis import analyse
from newsie.confusion.comparison import compare
from newsie.confusion.page import page_html, write_page
from newsie.confusion.report import Report, shown_rows, suspect_rows
from newsie.confusion.sentences import decimal, percent
from newsie.confusion.word_effects import articles_to_explain
from newsie.data.articles import Article
from tests.browser import PHONE, open_browser, open_page
from tests.screenshots import FORGET_TEXTS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

LABELS = ("arts", "business", "lifestyle", "politics", "science", "sports")
HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked=1'> & <b>bold</b>"
)


def answers(seed: int, count: int = 400, labels: int = 6) -> tuple[Any, Any]:
    """Probabilities of a model that takes a third of label 2 for label 0, and gold labels."""
    random = np.random.default_rng(seed)
    gold = random.integers(0, labels, count)
    logits = random.normal(0, 1, (count, labels))
    logits[np.arange(count), gold] += 2.5
    logits[(gold == 2) & (random.random(count) < 0.5), 0] += 3
    exp = np.exp(logits)
    return exp / exp.sum(axis=1, keepdims=True), gold


def report(*, gold: bool = True) -> Report:
    analyses = {}
    for seed, task in enumerate(("section", "broadsheet")):
        p, y = answers(1 - seed)
        analyses[task] = analyse(LABELS, p, y if gold else None)
    pair = (analyses["section"].answers, analyses["broadsheet"].answers)
    rows = set().union(*(shown_rows(found) for found in analyses.values()))
    texts = {
        row: Article(f"Headline {row}", f"The body of {row}. {HOSTILE}", id=f"a{row}")
        for row in rows
    }
    compared = [compare(*pair, names=("section", "broadsheet"))]
    model = {"name": HOSTILE, "fingerprint": "0123"}
    return Report("news.csv", model, None, 400, analyses, compared, texts)


def document(*, gold: bool = True) -> dict[str, Any]:
    made = report(gold=gold)
    content = made.to_json()
    for text in content["texts"].values():
        text["body"] += HOSTILE  # which cleaning takes out
    content["explanations"] = {
        task: {
            str(row): {
                "words": [["headline", 0, 8], ["body", 0, 3], ["body", None, None]],
                "effects": {
                    label: [0.1 * n, -0.1 * n, 0.3] for n, label in enumerate(sorted(labels))
                },
            }
            for row, labels in rows.items()
        }
        for task, rows in articles_to_explain(made).items()
    }
    return content


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return document()


@pytest.fixture(scope="module")
def path(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(content, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as found:
        yield found


@pytest.fixture
def page(browser: Browser, path: Path) -> Iterator[Page]:
    with open_page(browser, path.as_uri()) as found:
        yield found


def cell(page: Page, row: str, column: str) -> Locator:
    return page.locator(f'[data-at="{LABELS.index(row)} {LABELS.index(column)}"]')


def counts(content: dict[str, Any]) -> Any:
    return np.array(content["tasks"][0]["hard"]["counts"])


def choose(page: Page, name: str, value: str) -> None:
    page.locator(f"input[name={name}][value={value}]").click()


def row_order(page: Page) -> list[str]:
    return page.locator(".grid tbody th").all_inner_texts()


# --- the file -------------------------------------------------------------------------------------


def test_what_is_embedded_comes_back(content: dict[str, Any]) -> None:
    text = page_html(content)
    (embedded,) = re.findall(
        r'<script type="application/json" id="report">(.*?)</script>', text, re.DOTALL
    )
    assert "<" not in embedded
    found = json.loads(embedded)
    assert found["texts"] == content["texts"]
    assert found["model"]["name"] == HOSTILE
    dense = np.zeros((6, 6))
    for i, row in enumerate(found["tasks"][0]["hard"]["counts"]):
        dense[i, row[0::2]] = row[1::2]
    assert (dense == counts(content)).all()


def test_nothing_comes_from_elsewhere_and_nothing_is_markup(content: dict[str, Any]) -> None:
    text = page_html(content | {"texts": {}, "model": {"name": "m", "fingerprint": ""}})
    assert not re.search(r"""(?:src|href|action)=["'](?!data:|#)""", text)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", text)
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in text
    assert "default-src 'none'" in text


def test_a_page_is_written_whole(content: dict[str, Any], tmp_path: Path) -> None:
    written = write_page(content, tmp_path / "report.html")
    assert written.read_text(encoding="utf-8") == page_html(content)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


# --- in a browser ---------------------------------------------------------------------------------


def test_the_finding_comes_first(page: Page, content: dict[str, Any]) -> None:
    worst = content["tasks"][0]["confused"][0]
    assert (worst["gold"], worst["predicted"]) == ("lifestyle", "arts")
    share = round(100 * worst["share"]["value"])
    heading = page.locator("h1").inner_text().replace("\u00a0", " ")
    assert heading == f"Lifestyle is read as arts in {share} % of cases"
    assert page.locator("#know li").count() == len(content["summary"]) - 1


def test_articles_are_text_and_never_markup(page: Page) -> None:
    cell(page, "lifestyle", "arts").click()
    assert HOSTILE in page.locator("#cell .article").first.inner_text()
    assert HOSTILE in page.locator("#source").inner_text()
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, #source script").count() == 0


def test_pointing_at_a_cell_shows_its_figures(page: Page, content: dict[str, Any]) -> None:
    cell(page, "politics", "sports").hover()
    found = counts(content)
    shown = page.locator("#cell").inner_text().replace("\u00a0", " ")
    assert shown.startswith("Politics read as sports")
    articles = int(found[3, 5])
    assert f"{articles}\nof {found[3].sum()} articles of politics read as sports" in shown
    shares = (articles / found[3].sum(), articles / found[:, 5].sum(), found[5, 3] / found[5].sum())
    said = (
        "of politics\n",
        "of what was read as sports",
        "the reverse: of sports read as politics",
    )
    for share, of in zip(shares, said, strict=True):
        assert f"{100 * share:.0f} %\n{of}" in shown
    mean = content["tasks"][0]["soft"]["mean"][3][5]
    assert f"{100 * mean:.0f} %\nmean probability of sports" in shown


def test_choosing_a_cell_shows_and_keeps_its_articles(page: Page, content: dict[str, Any]) -> None:
    chosen = cell(page, "lifestyle", "arts")
    chosen.click()
    (wanted,) = (
        c
        for c in content["tasks"][0]["cells"]
        if (c["row_label"], c["column_label"]) == ("lifestyle", "arts")
    )
    assert page.locator("#cell .article h4").all_inner_texts() == [
        f"Headline {row}" for row in wanted["rows"]
    ]
    outputs = [t.replace("\u00a0", " ") for t in page.locator("#cell output").all_inner_texts()]
    assert outputs == [f"{100 * p:.0f} %" for both in wanted["probabilities"] for p in both]
    assert page.locator("#cell mark").count() > 0
    cell(page, "politics", "sports").hover()
    assert page.locator("#cell h3").inner_text() == "Lifestyle read as arts"
    chosen.click()  # lets go of it
    cell(page, "politics", "sports").hover()
    assert page.locator("#cell h3").inner_text() == "Politics read as sports"


def test_the_grid_is_worked_with_keys(page: Page) -> None:
    choose(page, "sort", "name")
    page.locator(".grid td[tabindex='0']").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    assert page.locator("#cell h3").inner_text() == "Lifestyle read as arts"
    page.keyboard.press("Enter")
    assert page.locator("#cell .article").count() == 3
    assert "lifestyle read as arts" in page.locator("#live").inner_text()
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.at") == "2 5"
    page.keyboard.press("ArrowRight")  # there is none further
    assert page.evaluate("document.activeElement.dataset.at") == "2 5"
    page.keyboard.press("Control+Home")
    assert page.evaluate("document.activeElement.dataset.at") == "0 0"
    assert page.locator(".grid td[tabindex='0']").count() == 1


def test_every_cell_can_be_heard(page: Page) -> None:
    grid = page.get_by_role("grid")
    assert grid.get_by_role("gridcell").count() == 36
    label = cell(page, "lifestyle", "arts").get_attribute("aria-label") or ""
    assert "articles of lifestyle read as arts" in label
    assert "mean probability of arts where lifestyle is gold" in label


def test_articles_stand_beside_every_row(page: Page, content: dict[str, Any]) -> None:
    choose(page, "sort", "name")
    heads = page.locator(".grid tbody th")
    shown = heads.evaluate_all("all => all.map((th) => getComputedStyle(th, '::after').content)")
    wanted = [f'"{n}"' for n in counts(content).sum(axis=1)]
    assert shown == wanted


def test_factors_are_as_far_from_1_to_10_as_from_10_to_100(page: Page) -> None:
    x = "(value) => factorScale(1, 1000).x(value)"
    places = [page.evaluate(x, value) for value in (1, 10, 100, 1000, None)]
    assert places == pytest.approx([0, 100 / 3, 200 / 3, 100, 100])
    assert page.evaluate("factorScale(0.5, 74).ticks") == [1, 3, 10, 30]
    assert page.evaluate("factorScale(1, 533).ticks") == [1, 10, 100]


def test_shares_have_a_scale(page: Page) -> None:
    heads = (
        page.locator("#comparisons .scale").first.inner_text().replace("\u00a0", " ").split("\n")
    )
    assert heads[0] == "0 %"
    for low, high in ((0, 1), (0, 0.01), (0.55, 0.98), (0.7, 0.8)):
        ticks = page.evaluate("([low, high]) => shareScale(low, high).ticks", [low, high])
        assert 1 <= len(ticks) <= 6
        assert low <= min(ticks) <= max(ticks) <= high


def test_rows_can_be_ordered(page: Page, content: dict[str, Any]) -> None:
    table = counts(content)

    def ordered(values: Any) -> list[str]:
        return [LABELS[i] for i in np.argsort(-values, kind="stable")]

    assert row_order(page) == content["tasks"][0]["clusters"]["order"]
    choose(page, "sort", "name")
    assert row_order(page) == sorted(LABELS)
    choose(page, "sort", "support")
    assert row_order(page) == ordered(table.sum(axis=1))
    choose(page, "sort", "error")
    assert row_order(page) == ordered(table.sum(axis=1) - np.diag(table))


def test_what_cells_hold_can_be_chosen(page: Page, content: dict[str, Any]) -> None:
    table, chosen = counts(content), cell(page, "lifestyle", "arts")
    assert chosen.inner_text() == f"{100 * table[2, 0] / table[2].sum():.0f}"
    choose(page, "measure", "counts")
    assert chosen.inner_text() == str(table[2, 0])
    choose(page, "measure", "column")
    assert chosen.inner_text() == f"{100 * table[2, 0] / table[:, 0].sum():.0f}"
    choose(page, "measure", "soft")
    assert chosen.inner_text() == f"{100 * content['tasks'][0]['soft']['mean'][2][0]:.0f}"


def test_tasks_can_be_switched(page: Page) -> None:
    first = page.locator(".figures").inner_text()
    page.get_by_role("tab", name="Section").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", selected=True).inner_text() == "Broadsheet"
    assert page.evaluate("document.activeElement.id") == "tab-1"
    assert page.locator(".figures").inner_text() != first
    page.get_by_role("tab", name="Section").click()
    assert page.locator(".figures").inner_text() == first


def test_pairs_have_a_verdict_and_advice(page: Page, content: dict[str, Any]) -> None:
    pair = content["tasks"][0]["pairs"][0]
    shown = page.locator(".pair").first
    assert (
        shown.locator(".advice").inner_text().replace("\u00a0", " ") == pair["advice"]["sentence"]
    )
    shown.get_by_text("Articles at the border").click()
    shown.locator(".article").first.wait_for()  # they are put there as the part opens
    assert shown.locator(".article").count() == len(pair["border"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_can_be_told_from_their_ground(browser: Browser, path: Path, scheme: Any) -> None:
    """WCAG 2.2, success criterion 1.4.3: at least 4.5 to 1."""
    with open_page(browser, path.as_uri(), scheme=scheme) as page:
        found = page.evaluate(CONTRAST)
    assert len(found) == 24
    for name, contrast in found.items():
        assert contrast >= 4.5, (name, contrast)


CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const light = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((n) => n / 255)
      .map((n) => (n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const found = {}, grid = document.querySelector(".grid td.cell");
  const style = getComputedStyle(document.documentElement);
  grid.style.transition = "none";
  for (const right of ["", " right"]) for (let n = 1; n < 9; n++) {
    grid.className = "cell l" + n + right;
    found[grid.className] = contrast(getComputedStyle(grid).color, getComputedStyle(grid).backgroundColor);
  }
  for (const text of ["--ink", "--soft", "--accent", "--right"]) for (const ground of ["--paper", "--sheet"])
    found[text + " on " + ground] = contrast(style.getPropertyValue(text), style.getPropertyValue(ground));
  return found;
}"""


def test_light_and_dark(browser: Browser, path: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    with open_page(browser, path.as_uri(), scheme="dark") as page:
        dark = page.evaluate(ground)
        page.get_by_role("button", name="Dark").click()
        light = page.evaluate(ground)
        assert page.get_by_role("button", name="Dark").get_attribute("aria-pressed") == "false"
    with open_page(browser, path.as_uri()) as page:
        assert page.evaluate(ground) == light != dark
        page.emulate_media(color_scheme="dark")
        page.get_by_role("button", name="Dark", pressed=True).wait_for()
        assert page.evaluate(ground) == dark


def test_pictures_without_texts_show_none(page: Page) -> None:
    cell(page, "lifestyle", "arts").click()
    assert "Headline" in page.locator("#cell").inner_text()
    page.evaluate(FORGET_TEXTS)
    shown = page.locator("#cell").inner_text()
    assert "Lifestyle read as arts" in shown
    assert "Headline" not in shown
    assert "null" not in shown
    page.get_by_text("Articles at the border").first.click()
    assert page.locator(".article").count() == 0


def test_paper_is_light(browser: Browser, path: Path) -> None:
    theme = "document.documentElement.dataset.theme"
    with open_page(browser, path.as_uri(), scheme="dark") as page:
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate(theme) == "light"
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate(theme) == "dark"


def test_a_phone(browser: Browser, path: Path) -> None:
    with open_page(browser, path.as_uri(), size=PHONE) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE[0]
        cell(page, "lifestyle", "arts").tap()
        assert page.locator("#cell h3").inner_text() == "Lifestyle read as arts"
        assert page.locator("#cell .article").count() == 3
        box = cell(page, "lifestyle", "arts").bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 24  # WCAG 2.2, 2.5.8: size of a target
        page.get_by_role("tab", name="Broadsheet").tap()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE[0]


def test_many_labels_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    p, y = answers(2, 400, 20)
    found = analyse([f"label {n}" for n in range(20)], p, y)
    made = Report("m.csv", {"name": "m", "fingerprint": "f"}, None, 400, {"t": found}, (), {})
    path = write_page(made.to_json(), tmp_path / "report.html")
    with open_page(browser, path.as_uri(), size=PHONE) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE[0]
        assert page.get_by_text("the table scrolls sideways").is_visible()
        last = page.locator(".grid tbody tr").first.locator("td").last
        last.tap()  # the table is scrolled, and not the page
        assert page.evaluate("[scrollX, document.getElementById('scroll').scrollLeft > 0]") == [
            0,
            True,
        ]


@pytest.mark.parametrize("width", [375, 320])
def test_the_table_on_a_phone_shows_its_key_and_the_chosen_cell(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    p, y = answers(2, 400, 20)
    names = [f"correspondence {n}" for n in range(20)]
    made = Report(
        "m.csv", {"name": "m", "fingerprint": "f"}, None, 400, {"t": analyse(names, p, y)}, (), {}
    )
    path = write_page(made.to_json(), tmp_path / "report.html")
    with open_page(browser, path.as_uri(), size=(width, 700)) as page:
        page.locator("summary", has_text="Every label").click()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        # The names of the rows are whole, and no column is cut off by them.
        assert page.evaluate(CUT_OFF) == []
        box = page.locator(".grid td.chosen").bounding_box()
        key = page.locator(".grid tbody th").first.bounding_box()
        assert box is not None
        assert key is not None
        assert key["x"] >= 0
        assert key["x"] + key["width"] <= box["x"] <= width - box["width"]
        first = page.locator(".table.stack tbody th").first
        content = first.evaluate("e => getComputedStyle(e, '::before').content")
        assert "attr" in content or "Label" in content


CUT_OFF = """() => {
  const names = [...document.querySelectorAll(".grid tbody th span")];
  const hidden = names.filter((e) => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().left < 0);
  const edge = document.querySelector(".grid tbody th").getBoundingClientRect().right;
  const cells = [...document.querySelectorAll(".grid tbody tr:first-child td")];
  const columns = cells.map((e) => e.getBoundingClientRect());
  const split = columns.filter((c) => c.left < edge - 1 && c.right > edge + 2);
  return [...hidden.map((e) => e.textContent), ...split.map((c) => c.left + " is behind " + edge)];
}"""


def test_figures_of_the_page_are_those_of_the_sentences(
    page: Page, content: dict[str, Any]
) -> None:
    """The same share is rounded alike."""
    for share in (0.005, 0.125, 0.625, 0.145, 0.994, 0.995, 0.9999, 1, 0):
        shown = page.evaluate("(share) => percent(share)", share).replace("\u00a0", " ")
        plainer = shown.replace("<", "less than ").replace(">", "more than ")
        assert plainer == percent(share)
    for value in (0.125, 0.375, 0.625, 0.875, 0.005):
        assert page.evaluate("(x) => fixed(x, 2)", value) == decimal(value, 2)
    assert page.locator("h1").inner_text().replace("\u00a0", " ").lower() == content["headline"]


def test_suspects_are_as_many_on_the_page_as_everywhere(browser: Browser, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 6, 600)
    p = np.full((600, 6), 0.01)
    p[np.arange(600), truth] = 0.95
    gold = np.where(random.random(600) < 0.1, (truth + 1) % 6, truth)
    found = analyse(LABELS, p, gold)
    made = Report("s.csv", {"name": "m", "fingerprint": "f"}, None, 600, {"t": found}, (), {})
    content = made.to_json()
    (told,) = (sentence for sentence in content["summary"] if "may be wrong" in sentence)
    assert told == content["tasks"][0]["suspects"]["sentence"]
    count = content["tasks"][0]["suspects"]["articles"]
    assert count == len(suspect_rows(found)) > 20
    assert told.startswith(f"{count} gold labels may be wrong")
    with open_page(browser, write_page(content, tmp_path / "r.html").as_uri()) as page:
        block = page.locator("section", has_text="Labels to check").last.inner_text()
    assert told in block.replace("\u00a0", " ")


def test_foreign_names_break_no_row_and_reorder_nothing(browser: Browser, tmp_path: Path) -> None:
    names = ("two\nlines", "\u202etfel", "חדשות ספורט", "<b>bold</b>", "plain", "arts")
    p, y = answers(1)
    publishers = ["عاجل\u202e" if n % 2 else "Daily\nTiny" for n in range(len(y))]
    found = analyse(names, p, y, groups=publishers)
    texts = {row: Article("\u202eheadline", "מבזק body") for row in shown_rows(found)}
    made = Report(
        "a\u202eb.csv", {"name": "m\n", "fingerprint": "f"}, None, 400, {"t": found}, (), texts
    )
    path = write_page(made.to_json(), tmp_path / "report.html")
    with open_page(browser, path.as_uri()) as page:
        shown = page.locator("body").inner_text()
        assert not re.search("[\u202a-\u202e]", shown)
        assert r"\u202etfel" in shown
        assert r"two\nlines" in shown
        assert "\u2068חדשות ספורט\u2069" in shown
        assert page.locator("b", has_text="bold").count() == 0
        heights = page.locator(".grid tbody th").evaluate_all("all => all.map(e => e.offsetHeight)")
        assert max(heights) <= 2 * min(heights)
        assert page.locator("#cell h4").first.get_attribute("dir") == "auto"


def test_without_gold_labels(browser: Browser, tmp_path: Path) -> None:
    content = document(gold=False)
    path = write_page(content, tmp_path / "report.html")
    missing = content["tasks"][0]["left_out"]
    assert missing
    with open_page(browser, path.as_uri()) as page:
        assert "gold label" not in page.locator("h1").inner_text()
        assert page.locator("input[name=measure]").count() == 1
        soft = content["tasks"][0]["soft"]
        mass = np.nan_to_num(np.array(soft["mean"], float)) * np.array(soft["support"])[:, None]
        np.fill_diagonal(mass, 0)
        row, column = divmod(int(mass.argmax()), len(LABELS))
        first = f"{LABELS[row].capitalize()}, with some {LABELS[column]}"
        assert page.locator("#cell h3").inner_text() == first
        cell(page, "lifestyle", "arts").hover()
        assert "where lifestyle is best" in page.locator("#cell").inner_text()
        for sentence in missing:
            assert page.get_by_text(sentence).count() == 1


def test_publishers_are_compared(browser: Browser, tmp_path: Path) -> None:
    p, y = answers(1)
    publishers = ["The Tiny Times" if n % 2 else "Daily Tiny" for n in range(len(y))]
    found = analyse(LABELS, p, y, groups=publishers, by="publisher")
    made = Report("g.csv", {"name": "m", "fingerprint": "f"}, None, 400, {"section": found}, (), {})
    path = write_page(made.to_json(), tmp_path / "report.html")
    with open_page(browser, path.as_uri()) as page:
        table = page.locator("table", has_text="Accuracy by publisher")
        rows = [row.split("\t") for row in table.locator("tbody tr").all_inner_texts()]
    right = (p.argmax(axis=1) == y).reshape(200, 2).mean(axis=0)
    shown = {row[0]: float(row[-2].split("\u00a0%")[0]) for row in rows}
    wanted = {"Daily Tiny": 100 * right[0], "The Tiny Times": 100 * right[1]}
    assert shown == pytest.approx(wanted, abs=0.51)


@pytest.mark.parametrize("gold", [[0], None])
def test_a_single_article(browser: Browser, tmp_path: Path, gold: list[int] | None) -> None:
    found = analyse(LABELS, np.array([[0.5, 0.1, 0.1, 0.1, 0.1, 0.1]]), gold)
    made = Report("one.csv", {"name": "m", "fingerprint": "f"}, None, 1, {"t": found}, (), {})
    path = write_page(made.to_json(), tmp_path / "one.html")
    with open_page(browser, path.as_uri()) as page:
        assert page.locator(".grid td.cell").count() == 1  # the other labels do not occur
        assert page.get_by_text("5 of 6 labels do not occur").count() == 1
        title = page.locator("h1").inner_text()
        figures = page.locator(".figures").inner_text()
    if gold is None:
        assert title == "Too little to tell which labels overlap"
    else:
        assert title == "Every article got its gold label"
        assert "1.00\n[0.00, 1.00]" in figures


@pytest.mark.parametrize(
    ("mistakes", "title"),
    [
        (1, "1 article of arts is read as sports"),
        (4, "4 articles of arts are read as sports"),
        (5, "Arts is read as sports in 50 % of cases"),
    ],
)
def test_a_share_of_few_articles_is_no_headline(
    browser: Browser, tmp_path: Path, mistakes: int, title: str
) -> None:
    p = np.full((10, 6), 0.1)
    p[:mistakes, 5] = p[mistakes:, 0] = 0.5
    found = analyse(LABELS, p, [0] * 10)
    made = Report("few.csv", {"name": "m", "fingerprint": "f"}, None, 10, {"t": found}, (), {})
    path = write_page(made.to_json(), tmp_path / "few.html")
    with open_page(browser, path.as_uri()) as page:
        assert page.locator("h1").inner_text().replace("\u00a0", " ") == title


def test_a_bound_that_is_not_known(browser: Browser, tmp_path: Path) -> None:
    content = document(gold=False)
    overlap = content["tasks"][0]["overlap"]["pairs"][0]
    overlap["overlapping"], overlap["lift"]["high"] = True, None
    path = write_page(content, tmp_path / "report.html")
    with open_page(browser, path.as_uri()) as page:
        shown = page.locator("table", has_text="Overlap").inner_text()
    assert f"[{overlap['lift']['low']:.1f}, –]" in shown


def test_five_hundred_labels(browser: Browser, tmp_path: Path) -> None:
    names = [f"label {n:03}" for n in range(500)]
    p, y = answers(3, 20_000, 500)
    found = analyse(names, p.astype(np.float32), y)
    texts = {row: Article(f"Headline {row}") for row in shown_rows(found)}
    big = Report(
        "big.csv", {"name": "m", "fingerprint": "f"}, None, 20_000, {"t": found}, (), texts
    )
    path = write_page(big.to_json(), tmp_path / "big.html")
    assert path.stat().st_size < 4_000_000
    with open_page(browser, path.as_uri()) as page:
        assert page.locator(".grid td.cell").count() == 28 * 28
        choose(page, "sort", "name")
        assert page.locator("#where").inner_text() == "Labels 1 to 28 of 500"
        page.get_by_role("button", name="After").click()
        assert row_order(page)[0] == "label 028"
        page.locator("#find").fill("label 400")
        page.keyboard.press("Enter")
        assert "label 400" in row_order(page)
        box = page.locator("#overview").bounding_box()
        assert box is not None
        page.locator("#overview").click(position={"x": 5, "y": box["height"] - 2})
        assert row_order(page)[-1] == "label 499"
