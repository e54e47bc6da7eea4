from __future__ import annotations

import json
from importlib import util
from pathlib import Path

import pytest

from newsie.doctor.examination import examine
from newsie.doctor.findings import Severity
from newsie.errors import MissingExtraError
from newsie.inference.classifier import Classifier
from tests.doctor.files import tiny_rows, write_csv, write_lines


def test_all_checks_and_their_order(tmp_path: Path, tiny_classifier: Classifier) -> None:
    rows = tiny_rows(130)
    rows[5] |= {"headline": "", "body": ""}
    rows[6]["section"] = "SPORTS"
    path = write_csv(tmp_path / "a.csv", [*rows, rows[0]])
    test = write_lines(tmp_path / "test.jsonl", [*tiny_rows(20, seed=1), rows[1]])
    said: list[str] = []
    report = examine(path, test=test, classifier=tiny_classifier, say=said.append).report
    codes = [finding.code for finding in report.findings]
    assert {"label-spelling", "test-leak", "rows-skipped", "exact-duplicates"} < set(codes)
    assert "student-agrees" in codes
    order = [finding.severity for finding in report.findings]
    assert order == sorted(order, key=list(Severity).index)
    assert (report.rows, report.articles) == (131, 130)
    assert report.tasks["section"].column == "section"
    assert sum(report.tasks["section"].labels.values()) == 130
    assert said[0] == "reading"
    assert set(report.seconds) <= set(said)


def test_report_as_json(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", tiny_rows(12))
    report = examine(path).report
    content = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert content["columns"]["headline"] == "headline"
    assert content["tasks"]["section"]["unlabelled"] == 0
    found = {finding["code"]: finding for finding in content["findings"]}
    assert found["label-too-few"]["severity"] == "warning"
    assert "wrong labels are looked for where" in content["left_out"][0]


def test_without_a_student_nobody_is_asked(tmp_path: Path) -> None:
    report = examine(write_csv(tmp_path / "a.csv", tiny_rows(12))).report
    assert "student-agrees" not in {finding.code for finding in report.findings}


def test_several_tasks(tmp_path: Path) -> None:
    rows = [row | {"topic": "ab"[i % 2]} for i, row in enumerate(tiny_rows(12))]
    path = write_csv(tmp_path / "a.csv", rows)
    assert list(examine(path).report.tasks) == ["section", "topic"]
    assert list(examine(path, tasks=["kind=topic"]).report.tasks) == ["kind"]


def test_labels_in_plenty_are_no_trouble(tmp_path: Path) -> None:
    rows = [
        {"headline": row["headline"], "body": row["body"], "label": f"l{i % 400}"}
        for i, row in enumerate(tiny_rows(820))
    ]
    report = examine(write_csv(tmp_path / "a.csv", rows)).report
    assert "many-labels" in {finding.code for finding in report.findings}
    assert any("2 to 300 labels" in sentence for sentence in report.left_out)


@pytest.mark.parametrize("package", ["cleanlab", "py3langid"])
def test_a_missing_package_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    find = util.find_spec
    monkeypatch.setattr(
        "newsie.doctor.examination.find_spec", lambda name: None if name == package else find(name)
    )
    with pytest.raises(MissingExtraError, match=rf"{package}.*newsie-classifier\[analysis\]"):
        examine(write_csv(tmp_path / "a.csv", tiny_rows(3)))
