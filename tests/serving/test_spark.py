"""serving/spark.py in local mode: real Spark, real workers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from newsie import Article, Classifier
from newsie.errors import InputError
from serving.spark import _with_answers
from tests.tiny import tiny_articles

ROOT = Path(__file__).parents[2]
pytest.importorskip("pyspark", reason="needs pyspark, which the extra dev installs")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
    pytest.skip(
        "Spark needs Java 17 or later; Debian: apt-get install default-jre-headless",
        allow_module_level=True,
    )
pytestmark = pytest.mark.slow


def run_spark(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    given = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_HOSTNAME": "localhost",
        "PYSPARK_SUBMIT_ARGS": "--master local[2] --conf spark.ui.enabled=false pyspark-shell",
    }
    command = [sys.executable, str(ROOT / "serving" / "spark.py"), *map(str, arguments)]
    return subprocess.run(
        command, env=given, capture_output=True, text=True, timeout=300, check=False
    )


def write_table(path: Path, articles: list[Article]) -> Path:
    import pyarrow

    rows = [{"id": a.id, "headline": a.headline or None, "body": a.body or None} for a in articles]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_tables_that_do_not_suit() -> None:
    from pyspark.sql.types import StringType, StructField, StructType

    def table(*names: str) -> StructType:
        return StructType([StructField(name, StringType()) for name in names])

    found = _with_answers(table("id", "body"), ["section"])
    assert found.names == ["id", "body", "section", "section_score"]
    with pytest.raises(InputError, match="called headline or body; there are: id, title"):
        _with_answers(table("id", "title"), ["section"])
    with pytest.raises(InputError, match="would hold answers: section; rename"):
        _with_answers(table("headline", "section"), ["section"])


def test_the_answers_are_those_of_a_single_machine(tiny_bundle: Path, tmp_path: Path) -> None:
    articles = [*tiny_articles(40, seed=3), Article("", id="no text"), Article(" <br> ", id="none")]
    source = write_table(tmp_path / "in.parquet", articles)
    done = run_spark(source, tmp_path / "out", "--model", tiny_bundle)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = {row["id"]: row for row in parquet.read_table(tmp_path / "out").to_pylist()}
    assert set(rows) == {article.id for article in articles}
    predictions = Classifier.from_pretrained(tiny_bundle).classify(articles[:40])
    for article, prediction in zip(articles, predictions, strict=False):
        row = rows[article.id]
        assert row["headline"] == article.headline
        for task in ("section", "mood"):
            assert row[task] == prediction.label(task)
            assert row[f"{task}_score"] == pytest.approx(prediction.confidence(task), abs=1e-5)
    for name in ("no text", "none"):
        assert rows[name]["section"] is rows[name]["section_score"] is None
