from __future__ import annotations

import json
from pathlib import Path

from newsie.data.cleaning import clean_text
from newsie.data.readers import read_articles

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "example-report"
AGAIN = "make it again, as docs/example-report/README.md says"


def test_the_example_is_of_the_sample_and_by_this_template() -> None:
    template = (ROOT / "newsie" / "confusion" / "report.html").read_text(encoding="utf-8")
    before, after = template.split("__REPORT__")
    text = (FOLDER / "report.html").read_text(encoding="utf-8")
    assert text.startswith(before), AGAIN
    assert text.endswith(after), AGAIN
    report = json.loads(text.removeprefix(before).removesuffix(after))
    sample = read_articles(ROOT / "data" / "sample" / "articles.jsonl")
    assert report["articles"] == len(sample)
    for row, shown in report["texts"].items():
        assert shown["headline"] == clean_text(sample[int(row)].headline)


def test_the_example_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_500_000
