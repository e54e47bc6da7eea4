from __future__ import annotations

import datetime
import random
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from newsie.data import tables
from newsie.data.readers import ArticleReader, read_articles
from newsie.data.records import BadRow, Record
from newsie.data.tables import BATCH_ROWS, open_arrow, open_hub, open_parquet
from newsie.errors import MissingExtraError, ReadError
from newsie.labels import LabelRule

TABLE = pyarrow.table(
    {
        "headline": ["Rain", None, "Sun"],
        "rank": [1, 2, None],
        "score": [0.5, float("nan"), None],
        "published": [datetime.date(2022, 5, 1), None, datetime.date(2022, 5, 2)],
        "at": pyarrow.array(
            [datetime.datetime(2022, 5, 1, 12), None, None], pyarrow.timestamp("s")
        ),
        "tags": [["a", "é"], [], None],
        "nothing": pyarrow.nulls(3),
        "raw": pyarrow.array([b"bytes", b"caf\xc3\xa9", None]),
        "kind": pyarrow.array(["x", "y", "x"]).dictionary_encode(),
    }
)
ROWS = [
    ["Rain", "1", "0.5", "2022-05-01", "2022-05-01T12:00:00", '["a", "é"]', "", "bytes", "x"],
    ["", "2", "", "", "", "[]", "", "café", "y"],
    ["Sun", "", "", "2022-05-02", "", "", "", "", "x"],
]


def save(table: pyarrow.Table, path: Path, kind: str) -> Path:
    if kind == "parquet":
        pyarrow.parquet.write_table(table, path)
    elif kind == "feather":
        pyarrow.feather.write_feather(table, str(path), compression="zstd")
    else:
        new = pyarrow.ipc.new_file if kind == "file" else pyarrow.ipc.new_stream
        with new(str(path), table.schema) as writer:
            writer.write_table(table)
    return path


KINDS = {"parquet": open_parquet, "feather": open_arrow, "file": open_arrow, "stream": open_arrow}


@pytest.mark.parametrize("kind", KINDS)
def test_tables(tmp_path: Path, kind: str) -> None:
    records = KINDS[kind](save(TABLE, tmp_path / "news.x", kind))
    assert list(records.columns) == TABLE.column_names
    expected = [dict(zip(records.columns, row, strict=True)) for row in ROWS]
    assert list(records.read(records.columns)) == [Record(n, r) for n, r in enumerate(expected, 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_only_wanted_columns_are_read(tmp_path: Path, kind: str) -> None:
    records = KINDS[kind](save(TABLE, tmp_path / "news.x", kind))
    first = next(records.read(["kind", "headline"]))
    assert first.content == {"kind": "x", "headline": "Rain"}


@pytest.mark.parametrize("kind", KINDS)
def test_many_rows(tmp_path: Path, kind: str) -> None:
    rows = 2 * BATCH_ROWS + 1
    table = pyarrow.table({"headline": [str(i) for i in range(rows)]})
    records = KINDS[kind](save(table, tmp_path / "news.x", kind))
    assert [(r.number, r.content) for r in records.read(["headline"])] == [
        (i + 1, {"headline": str(i)}) for i in range(rows)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_text_that_is_not_utf8(tmp_path: Path, kind: str) -> None:
    raw = pyarrow.array([b"Rain", b"caf\xe9", b"Sun"])
    text = pyarrow.Array.from_buffers(pyarrow.string(), 3, raw.buffers())
    records = KINDS[kind](save(pyarrow.table({"headline": text}), tmp_path / "news.x", kind))
    assert [record.content for record in records.read(["headline"])] == [
        {"headline": "Rain"},
        BadRow("not UTF-8", column="headline"),
        {"headline": "Sun"},
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [b"headline\nRain\n", b"PAR1", b"ARROW1\0\0"])
def test_files_that_are_something_else(tmp_path: Path, kind: str, content: bytes) -> None:
    path = tmp_path / "news.x"
    path.write_bytes(content)
    with pytest.raises(ReadError, match=r"not an? (Parquet|Arrow) file, or damaged"):
        KINDS[kind](path)


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_end_early(tmp_path: Path, kind: str) -> None:
    table = pyarrow.table({"headline": [str(random.Random(i).random()) for i in range(20_000)]})
    path = save(table, tmp_path / "news.x", kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ReadError, match="damaged"):
        list(KINDS[kind](path).read(["headline"]))


def test_of_a_damaged_row_group_the_others_are_read(tmp_path: Path) -> None:
    table = pyarrow.table({"headline": [str(random.Random(i).random()) for i in range(40_000)]})
    path = tmp_path / "news.parquet"
    pyarrow.parquet.write_table(table, path, row_group_size=10_000, compression="zstd")
    start = pyarrow.parquet.read_metadata(path).row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start + 3000 : start + 4000] = bytes(1000)
    path.write_bytes(content)
    reader = ArticleReader(path)
    good = [reader.number for _ in reader]
    assert {*range(1, 10_001), *range(20_001, 40_001)} <= set(good)
    assert good == sorted(good)
    assert reader.rows == 40_000 == len(good) + reader.problems.counts["in a damaged row group"]
    assert len(good) < 40_000
    with pytest.raises(ReadError, match=r"row 1\d{4}: in a damaged row group \("):
        list(ArticleReader(path, strict=True))


def test_memory_does_not_grow_with_a_parquet_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BATCH_BYTES", 500_000)
    words = random.Random(0)
    body = [words.randbytes(1000).hex() for _ in range(4_000)]
    table = pyarrow.table({"headline": body, "other": body})
    path = tmp_path / "news.parquet"  # of one row group
    pyarrow.parquet.write_table(table, path, use_dictionary=False, data_page_size=2**16)
    records = open_parquet(path)
    before, most = pyarrow.total_allocated_bytes(), 0
    for _ in records.read(["headline"]):
        most = max(most, pyarrow.total_allocated_bytes() - before)
    assert 0 < most < 5_000_000 < path.stat().st_size / 3


@pytest.mark.parametrize("kind", KINDS)
def test_long_rows_are_taken_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    table = pyarrow.table({"headline": [str(i) * 1000 for i in range(1000, 1100)]})
    records = KINDS[kind](save(table, tmp_path / "news.x", kind))
    taken: list[int] = []
    batch_rows = tables._batch_rows

    def counted(batch: Any) -> Any:
        taken.append(batch.num_rows)
        return batch_rows(batch)

    monkeypatch.setattr(tables, "_batch_rows", counted)
    monkeypatch.setattr(tables, "BATCH_BYTES", 50_000)
    assert len(list(records.read(["headline"]))) == sum(taken) == 100
    assert max(taken) == 12


@pytest.mark.parametrize("kind", KINDS)
def test_dates_beyond_all_calendars(tmp_path: Path, kind: str) -> None:
    seconds = pyarrow.array([0, 10**14, 60], pyarrow.int64())
    table = pyarrow.table(
        {"headline": ["Rain", "Sun", "Wind"], "published": seconds.cast(pyarrow.timestamp("s"))}
    )
    path = save(table, tmp_path / f"news.{'parquet' if kind == 'parquet' else 'arrow'}", kind)
    reader = ArticleReader(path)
    assert [article.headline for article in reader] == ["Rain", "Wind"]
    assert "published" in reader.problems.summary()
    assert reader.problems.counts == {"a value that cannot be read": 1}
    fewer = ArticleReader(path, fields=("headline", "body"))
    assert [(a.headline, a.published) for a in fewer] == [
        (h, None) for h in ("Rain", "Sun", "Wind")
    ]
    assert fewer.describe_columns() == "headline <- 'headline'"


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("news.parquet", "pyarrow", "parquet"),
        ("news.feather", "pyarrow", "parquet"),
        ("news.jsonl.zst", "pyarrow", "parquet"),
        ("hub:owner/name", "datasets", "hub"),
    ],
)
def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    source: Any = name
    if not name.startswith("hub:"):
        source = tmp_path / name
        source.write_bytes(b"x")
    with pytest.raises(MissingExtraError, match=rf"{package}.*newsie-classifier\[{extra}\]"):
        read_articles(source)


def test_zstandard(tmp_path: Path) -> None:
    for name, content in [
        ("news.csv.zst", b"headline\nRain\n"),
        ("news.jsonl.zst", b'{"headline": "Rain"}\n'),
        ("news.json.zst", b'[{"headline": "Rain"}]'),
        ("news.txt.zst", b"Rain\n"),
    ]:
        with pyarrow.output_stream(str(tmp_path / name), compression="zstd") as stream:
            stream.write(content)
        assert [article.headline for article in read_articles(tmp_path / name)] == ["Rain"]


def test_zstandard_that_ends_early(tmp_path: Path) -> None:
    path = tmp_path / "news.txt.zst"
    with pyarrow.output_stream(str(path), compression="zstd") as stream:
        stream.write(b"".join(f"{random.Random(i).random()}\n".encode() for i in range(50_000)))
    path.write_bytes(path.read_bytes()[:-1])
    reader = ArticleReader(path)
    assert 0 < len(list(reader)) < 50_000
    assert "ends early" in reader.problems.summary()


@pytest.mark.slow
def test_hub_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["sports", "weather"]),
        }
    )
    for split, texts in [("train", ["Rain", "Goal"]), ("test", ["Wind"])]:
        labels = [0 if text == "Goal" else 1 for text in texts]
        table = datasets.Dataset.from_dict({"text": texts, "label": labels}, features)
        (tmp_path / "repo").mkdir(exist_ok=True)
        table.to_parquet(tmp_path / "repo" / f"{split}-00000-of-00001.parquet")
    rules = {"section": LabelRule("label")}
    train = read_articles(f"hub:{tmp_path / 'repo'}", rules=rules)
    assert [(a.body, a.labels) for a in train] == [
        ("Rain", {"section": "weather"}),
        ("Goal", {"section": "sports"}),
    ]
    assert [a.body for a in read_articles(f"hub:{tmp_path / 'repo'}:test")] == ["Wind"]
    with pytest.raises(ReadError, match="cannot be loaded"):
        open_hub(f"hub:{tmp_path / 'missing'}")
    with pytest.raises(ReadError, match="cannot be loaded"):
        open_hub(f"hub:{tmp_path / 'repo'}:validation")
