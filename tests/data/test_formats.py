from __future__ import annotations

import gzip
import io
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, TypeGuard

import pyarrow
import pyarrow.parquet
import pytest

from newsie.data.folders import LINKED, NO_FILE, NO_LABEL, OTHER_ENDING
from newsie.data.formats import SUFFIXES, is_stream, open_records
from newsie.data.readers import ArticleReader
from newsie.data.records import BadRow, Records, Row
from newsie.errors import InputError, ReadError


def open_path(path: Path | str) -> Records:
    return open_records(path, max_field_chars=100)


@pytest.mark.parametrize(
    "name",
    ["news", "news.xml", "news.csv.bak", "news.parquet.gz", "news.gz", "news.csv.gz.zst", ".csv"],
)
def test_unknown_endings_tell_the_known_ones(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(ReadError) as error:
        open_path(tmp_path / name)
    for suffix in [*SUFFIXES, ".gz", ".zst"]:
        assert suffix in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"news\.csv: there is no such file"):
        open_path(str(tmp_path / "news.csv"))


@pytest.mark.parametrize("name", ["x" * 300 + ".csv", "क" * 120 + ".csv"])
def test_a_name_that_no_file_can_have(name: str) -> None:
    with pytest.raises(ReadError, match="cannot be opened: File name too long"):
        open_path(name)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"news{suffix}"
    path.touch()
    with pytest.raises(ReadError, match="the file is empty"):
        open_path(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    path.write_text("headline\nRain\n")
    path.chmod(0)
    with pytest.raises(ReadError, match="cannot be opened: Permission denied"):
        open_path(path)


@pytest.mark.parametrize("name", ["news.CSV", "the.news.csv", "a b.csv"])
def test_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("headline\nRain\n")
    assert open_path(tmp_path / name).columns == ("headline",)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8", "utf-8-sig"])
@pytest.mark.parametrize(
    "content",
    [
        "Title\tText\tDate\r\nRain\tx, y\t2024\r\nSun\t\t\r\n",
        '"Title","Text"\n"Rain","x, y"\n"Sun",""\n',
        "id;headline\n1;Rain\n2;Sun\n",
    ],
)
def test_a_table_that_is_saved_as_text(tmp_path: Path, encoding: str, content: str) -> None:
    path = tmp_path / "news.txt"
    path.write_bytes(content.encode(encoding))
    reader = ArticleReader(path)
    assert [article.headline for article in reader] == ["Rain", "Sun"]


@pytest.mark.parametrize(
    "content",
    [
        "News, sport and weather\nRain, again\n",
        "Bombs,fire,chaos\nRain,sun,wind\n",
        "Story, text and headline\nThe sun is out\nA late goal\nRates rise\n",  # uneven rows
        "title,text\n",
        "a\r;title\nRain\n",
        'Headline "quoted\nRain\n',
    ],
)
def test_headlines_that_look_like_a_table(tmp_path: Path, content: str) -> None:
    path = tmp_path / "news.txt"
    path.write_bytes(content.encode())
    assert [a.headline for a in ArticleReader(path)] == [
        clean for line in content.split("\n") if (clean := line.strip())
    ]


# --- a folder of texts by label -----------------------------------------------------------------


def test_a_folder_of_texts(tmp_path: Path) -> None:
    for label, name, content in [
        ("sports", "b.txt", "\ufeffA late goal\r\n\r\nThe keeper slipped.\nTwice.\n"),
        ("sports", "a.txt", "Headline only"),
        ("weather", "c.txt", "\n\nRain\nFor days."),
        ("weather", "notes.md", "no article"),
    ]:
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / name).write_bytes(content.encode())
    records = open_path(tmp_path)
    assert records.columns == ("id", "headline", "body", "label")
    assert [tuple(r.content.values()) for r in records.read([]) if isinstance(r.content, dict)] == [
        ("sports/a.txt", "Headline only", "", "sports"),
        ("sports/b.txt", "A late goal", "The keeper slipped.\nTwice.", "sports"),
        ("weather/c.txt", "Rain", "For days.", "weather"),
    ]


def test_texts_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "label").mkdir()
    for name, content in [("a", b"\x81"), ("b", b"x\x00"), ("c", b"x" * 101), ("d", b"x" * 100)]:
        (tmp_path / "label" / f"{name}.txt").write_bytes(content)
    gone = tmp_path / "label" / "e.txt"
    gone.write_text("Rain")
    records = open_path(tmp_path)
    gone.unlink()
    found = [record.content for record in records.read([])]
    reasons = [content.reason if isinstance(content, BadRow) else "" for content in found]
    assert reasons == ["not UTF-8", "NUL character", "field too long", "", "cannot be opened"]
    assert "label/a.txt" in str(found[0])


def test_what_is_no_file_is_left_out_of_a_folder(tmp_path: Path) -> None:
    label = tmp_path / "label"
    label.mkdir()
    (label / "a.txt").write_text("Rain")
    (label / "linked.txt").symlink_to("a.txt")
    os.mkfifo(label / "pipe.txt")
    (label / "nothing.txt").symlink_to("nowhere")
    (label / "loop.txt").symlink_to("loop.txt")
    (label / "device.txt").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(label / "socket.txt"))
        records = open_path(tmp_path)
    rows = [r.content["id"] for r in records.read([]) if is_row(r.content)]
    assert rows == ["label/a.txt", "label/linked.txt"]
    assert records.notes == {NO_FILE: 5}


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "news", tmp_path / "elsewhere"
    for folder in (root / "a" / "deep", elsewhere / "sub"):
        folder.mkdir(parents=True)
        (folder / "1.txt").write_text("Rain")
    for name, target in [
        ("b", elsewhere),
        ("c", elsewhere / "sub"),
        ("d", elsewhere),
        ("root", root),
        ("above", tmp_path),
        ("same", root / "a"),
        ("a/deep/loop", root / "a"),
    ]:
        (root / name).symlink_to(target)
    records = open_path(root)
    rows = [r.content["id"] for r in records.read([]) if is_row(r.content)]
    assert rows == ["a/deep/1.txt", "b/sub/1.txt"]
    assert records.notes == {LINKED: 6}


def test_a_folder_without_labels(tmp_path: Path) -> None:
    (tmp_path / "news.csv").write_text("headline\nRain\n")
    with pytest.raises(ReadError, match="folder for each label"):
        open_path(tmp_path)


def test_texts_of_a_folder_in_any_depth_and_case(tmp_path: Path) -> None:
    for name in ("sports/a.TXT", "sports/2024/05/b.txt", "weather/c.Txt", "weather/d.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    for name in ("loose.txt", "README.md", "sports/.hidden", "weather/2024/e.text"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    records = open_path(tmp_path)
    rows = [(r.content["id"], r.content["label"]) for r in records.read([]) if is_row(r.content)]
    assert rows == [
        ("sports/2024/05/b.txt", "sports"),
        ("sports/a.TXT", "sports"),
        ("weather/c.Txt", "weather"),
    ]
    assert records.notes == {OTHER_ENDING: 3, NO_LABEL: 1}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "cp1252"])
def test_texts_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "label").mkdir()
    (tmp_path / "label" / "a.txt").write_bytes("Été\ncafé".encode(encoding))
    [record] = open_path(tmp_path).read([])
    assert is_row(record.content)
    assert (record.content["headline"], record.content["body"]) == ("Été", "café")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/sant\xe9"
    os.mkdir(folder)
    with open(folder + b"/a\xff\x81.txt", "wb") as stream:
        stream.write(b"Rain")
    with open(os.fsencode(tmp_path) + b"/n\xe9.csv", "wb") as stream:
        stream.write(b"headline\nRain\n")
    [record] = open_path(tmp_path).read([])
    assert record.content == {
        "id": "santé/a??.txt",
        "headline": "Rain",
        "body": "",
        "label": "santé",
    }
    [record] = open_path(Path(os.fsdecode(os.fsencode(tmp_path) + b"/n\xe9.csv"))).read([])
    assert record.content == {"headline": "Rain"}


# --- streams and pipes ---------------------------------------------------------------------------


def is_row(content: Row | BadRow) -> TypeGuard[Row]:
    return not isinstance(content, BadRow)


def headlines(content: bytes, **options: Any) -> list[str]:
    records = open_records(io.BytesIO(content), max_field_chars=1000, **options)
    rows = [record.content for record in records.read(records.columns)]
    return [row["headline"] for row in rows if is_row(row)]


@pytest.mark.parametrize(
    "content",
    [
        b"headline,body\nRain,x\nSun,y\n",
        b"\n\nid;headline\n1;Rain\n2;Sun\n",
        b"sep=;\nid;headline\n1;Rain\n2;Sun\n",
        b"\xef\xbb\xbfid\theadline\tbody\n1\tRain\tx\n2\tSun\ty\n",
        b'"headline, print";"headline";"id"\n"x";"Rain";1\n"x";"Sun";2\n',
        b"headline\nRain\nSun\n",
        b'[\n {"headline": "Rain"},\n {"headline": "Sun"}\n]',
        b'[{"headline": "Rain"}, {"headline": "Sun"}]\n',
        b'{"headline": "Rain"}\n{"headline": "Sun"}\n',
        b'{"headline": {"0": "Rain", "1": "Sun"}}',
        b'{\n "articles": [\n {"headline": "Rain"}, {"headline": "Sun"}]}',
        b"Rain\nSun\n",
    ],
)
@pytest.mark.parametrize("encode", ["", "utf-16", "gzip"])
def test_the_format_of_a_stream_is_found_by_its_content(content: bytes, encode: str) -> None:
    if encode == "utf-16":
        content = content.decode("utf-8-sig").encode("utf-16")
    if encode == "gzip":
        content = gzip.compress(content)
    assert headlines(content) == ["Rain", "Sun"]


@pytest.mark.parametrize(
    "line",
    [
        "News, weather and sport",
        "Text, drugs and rock'n'roll: a title, a source",
        "Title fight",
        "Rain; wind",
        "Rain | Wind | Sun today",
        "[Video] A late goal",
        "Rain, wind, sun",
    ],
)
def test_headlines_that_look_like_something_else(line: str) -> None:
    assert headlines(f"{line}\nSun\n".encode()) == [line, "Sun"]


def test_a_stream_with_columns_that_are_named() -> None:
    content = b"Kopf oben,Text unten\nRain,x\n"
    [record] = open_records(io.BytesIO(content), max_field_chars=99, known=["kopf_oben"]).read([])
    assert record.content == {"Kopf oben": "Rain", "Text unten": "x"}


def test_the_name_of_a_stream_tells_its_format() -> None:
    assert headlines(b"headline\nRain, again\n", name="a.csv") == ["Rain, again"]
    assert headlines(b"headline,body\nRain,x\n", name="a.txt") == ["Rain"]
    assert headlines(b"headline\nRain, x\n", name="a.txt") == ["headline", "Rain, x"]
    assert headlines(b"Rain\nSun\n", name="upload") == ["Rain", "Sun"]
    with pytest.raises(ReadError, match="not a Parquet file"):
        headlines(b"headline\nRain\n", name="a.parquet")


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_tables_as_streams(kind: str, tmp_path: Path) -> None:
    table = pyarrow.table({"headline": ["Rain", "Sun"]})
    path = tmp_path / "news"
    if kind == "parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        new = pyarrow.ipc.new_file if kind == "file" else pyarrow.ipc.new_stream
        with new(path, table.schema) as writer:
            writer.write_table(table)
    name = "news.arrow" if kind == "stream" else None
    assert headlines(path.read_bytes(), name=name) == ["Rain", "Sun"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04rest", "an Excel sheet"),
        (b"\xd0\xcf\x11\xe0rest", "an old Excel"),
        (b"%PDF-1.7", "a PDF file"),
        (b"<?xml version='1.0'?>\n<rss>", "XML or a feed"),
        (b"\xef\xbb\xbf\n<rss version='2.0'>", "XML or a feed"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"WARC/1.0\r\n", "a web archive"),
        (b"\x01eca100 3 s", "a wire format"),
        (b"col_a,col_b,col_c\n1,2,3\n", "no column with text"),
        (b"", "no line with text"),
    ],
)
def test_what_is_no_news_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=f"stdin: .*{message}"):
        list(ArticleReader(io.BytesIO(content)))
    if content and b"col_a" not in content:
        for name in ("news.csv", "news.json", "news.txt"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(ReadError, match=message):
                open_path(tmp_path / name)


def test_pipes_are_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "news"
    os.mkfifo(pipe)
    thread = threading.Thread(
        target=pipe.write_bytes, args=[b"headline,body\n" + b"Rain,x\n" * 20_000]
    )
    thread.start()
    assert is_stream(pipe)
    reader = ArticleReader(pipe)
    assert sum(article.headline == "Rain" for article in reader) == 20_000
    thread.join()
    with pytest.raises(InputError, match="can be read only once"):
        list(reader)


@pytest.mark.parametrize("name", ["/dev/stdin", "<(cat news)", "-"])
def test_standard_input_and_process_substitution(tmp_path: Path, name: str) -> None:
    (tmp_path / "news").write_text("headline;body\nRain;x\n")
    code = (
        "import sys; from newsie.data.readers import ArticleReader as R; "
        "print([(a.headline, a.body) for a in R(sys.argv[1])])"
    )
    for feed in ("cat news | ", "< news "):
        line = f'{feed}{sys.executable} -c "{code}" {name}'
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("[('Rain', 'x')]\n", "")


def test_a_stream_without_a_row_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("newsie.data.binary.MAX_PEEKED_BYTES", 1_000_000)
    for line in (b"x" * 10_000_000, b'{"x": \n' * 1_000_000):
        with pytest.raises(ReadError, match="stdin: the first 0 MiB hold no row"):
            open_records(io.BytesIO(line + b"\n"), max_field_chars=1000)


def test_a_long_line_later_in_a_stream_is_skipped() -> None:
    content = (
        b'{"headline": "Rain"}\n{"headline": "' + b"x" * 10_000_000 + b'"}\n{"headline": "Sun"}\n'
    )
    assert headlines(content) == ["Rain", "Sun"]


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n\0\0", b"ab\x02\xf3\n\0", b"\x80\x04\x95.\n"]
)
def test_binary_data_on_a_stream_is_refused(content: bytes) -> None:
    with pytest.raises(ReadError, match=r"stdin: holds (binary data|an image)"):
        ArticleReader(io.BytesIO(content))
