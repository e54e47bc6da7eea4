"""Newsie on a Spark cluster: a table of articles in, the same table with its answers out.

    spark-submit serving/spark.py big/ out/ --model BUNDLE

Needs pip install '.[parquet]' pandas pyspark, here and on every node; the bundle lies there, too.
Without a cluster the cores of this machine are one. https://spark.apache.org/docs/latest/api/python/

Spark gives every core a piece of the table and does a lost one anew; a student answers it on one thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

    from newsie import Classifier

__all__ = ["classify_frame"]


def classify_frame(
    frame: DataFrame, model: str | None = None, tasks: Sequence[str] | None = None
) -> DataFrame:
    """The rows of a frame with TASK and TASK_score for each task; null where a row has no text.

    Args:
        frame: with a column headline, body or both, texts; other columns are kept.
        model: directory of a bundle that every node has; None is the bundled one.
        tasks: the tasks to answer; None means all.

    Raises:
        InputError: the frame has neither column, or has one that would hold answers.
        LabelError: there is no such task.
    """
    from newsie import Classifier

    labels = Classifier.from_pretrained(model, threads=1).labels
    names = [labels[task].name for task in tasks or labels.names]
    schema = _with_answers(frame.schema, names)

    def answer(parts: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:  # on the nodes
        student = Classifier.from_pretrained(model, threads=1)
        for part in parts:
            yield _answered(part, student, names)

    return frame.mapInPandas(answer, schema)


def _with_answers(schema: StructType, tasks: Sequence[str]) -> StructType:
    from pyspark.sql.types import DoubleType, StringType, StructField, StructType

    from newsie.errors import InputError

    answers = [
        field
        for task in tasks
        for field in (StructField(task, StringType()), StructField(f"{task}_score", DoubleType()))
    ]
    if not {"headline", "body"} & set(schema.names):
        raise InputError(
            f"no column is called headline or body; there are: {', '.join(schema.names)}. Rename "
            'one: frame.withColumnRenamed("title", "headline")'
        )
    if taken := {field.name for field in answers} & set(schema.names):
        raise InputError(
            f"the table has columns that would hold answers: {', '.join(sorted(taken))}; rename them"
        )
    return StructType([*schema.fields, *answers])


def _answered(part: pd.DataFrame, student: Classifier, tasks: Sequence[str]) -> pd.DataFrame:
    from newsie import Article
    from newsie.data.encoding import view_text

    found: dict[str, list[Any]] = {
        name: [None] * len(part) for task in tasks for name in (task, f"{task}_score")
    }
    empty = [""] * len(part)
    headlines, bodies = (
        part[name].fillna("") if name in part else empty for name in ("headline", "body")
    )
    articles = [Article(*texts) for texts in zip(headlines, bodies, strict=True)]
    rows = [row for row, article in enumerate(articles) if view_text(article, "full")]
    answers = student.classify([articles[row] for row in rows], tasks=tasks)
    for row, prediction in zip(rows, answers, strict=True):
        for task in tasks:
            found[task][row] = prediction.label(task)
            found[f"{task}_score"][row] = prediction.confidence(task)
    return part.assign(**found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parquet into Parquet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="Parquet files or a folder of them")
    parser.add_argument("target", help="folder of the answers, not there yet")
    parser.add_argument("--model", help="directory of a bundle [the bundled one]")
    parser.add_argument("--task", action="append", help="a task to answer; repeatable [all]")
    options = parser.parse_args(arguments)

    from pyspark.sql import SparkSession

    session = SparkSession.builder.appName("newsie").getOrCreate()
    answered = classify_frame(session.read.parquet(options.source), options.model, options.task)
    answered.write.parquet(options.target)
    session.stop()


if __name__ == "__main__":
    main()
