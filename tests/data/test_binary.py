from __future__ import annotations

import gzip
import io
import os
import threading
from pathlib import Path
from typing import IO, Any

import pyarrow
import pytest

from newsie.data.binary import FileSource, StreamSource, open_binary
from newsie.errors import InputError, ReadError

CONTENT = "".join(f"line {n} – café\n" for n in range(20_000)).encode()


def zstandard(content: bytes) -> bytes:
    return bytes(pyarrow.compress(content, codec="zstd", asbytes=True))


class ReadlineOnly:
    """A stream without `read1`, as some libraries have."""

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)

    def readline(self, size: int = -1) -> bytes:
        return self._stream.readline(size)


@pytest.mark.parametrize(
    "stream",
    [
        io.BytesIO(CONTENT),
        io.BufferedReader(io.BytesIO(CONTENT), 7),
        io.StringIO(CONTENT.decode()),
        io.TextIOWrapper(io.BytesIO(CONTENT), "utf-8"),
        ReadlineOnly(CONTENT),
        io.BytesIO(gzip.compress(CONTENT)),
        io.BytesIO(zstandard(CONTENT)),
        io.BytesIO(CONTENT.decode().encode("utf-16")),
        io.BytesIO(gzip.compress(CONTENT.decode().encode("utf-32"))),
    ],
    ids=["bytes", "buffered", "string", "text", "readline", "gzip", "zstd", "utf-16", "utf-32.gz"],
)
def test_a_stream_is_whole_after_peeks_of_any_length(stream: IO[Any]) -> None:
    source = StreamSource(stream, "upload")
    for size in (1, 10, 100_000, 5):
        with source.peek() as start:
            assert start.read(size) == CONTENT[:size]
    with source.open() as whole:
        assert whole.read() == CONTENT
    with pytest.raises(InputError, match="upload can be read only once"):
        source.open()


def test_text_that_was_decoded_with_escapes_is_the_bytes_it_was() -> None:
    for text in ("caf\udce9\n", "half \ud800\n"):
        with StreamSource(io.StringIO(text), "x").open() as stream:
            assert stream.read() == (b"caf\xe9\n" if "caf" in text else b"half ?\n")


def test_a_stream_that_holds_more_than_it_may() -> None:
    packed = gzip.compress(b"x" * 5_000_000)
    source = StreamSource(io.BytesIO(packed), "upload.gz", max_bytes=1_000_000)
    with source.peek() as start:
        assert start.read(10) == b"x" * 10
    with source.open() as stream, pytest.raises(ReadError, match="more than 1,000,000 bytes"):
        stream.read()
    with StreamSource(io.BytesIO(packed), "x", max_bytes=5_000_000).open() as stream:
        assert len(stream.read()) == 5_000_000


def test_a_file_is_unpacked_by_its_content_too(tmp_path: Path) -> None:
    for content in (gzip.compress(CONTENT), zstandard(CONTENT), CONTENT):
        (tmp_path / "news.csv").write_bytes(content)
        with open_binary(tmp_path / "news.csv") as stream:
            assert stream.read() == CONTENT


def test_a_file_that_is_not_utf16_though_it_is_marked(tmp_path: Path) -> None:
    path = tmp_path / "news.txt"
    path.write_bytes(b"\xff\xfe\x00\xd8\x00\xd8")
    with FileSource(path).open() as stream, pytest.raises(OSError, match="not valid UTF-16"):
        stream.read()


def test_a_mark_that_arrives_byte_by_byte() -> None:
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb", buffering=0) as stream:
            for byte in "héadline\n".encode("utf-16"):
                stream.write(bytes([byte]))

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reading, "rb") as pipe, StreamSource(pipe, "pipe").open() as stream:
        assert stream.read() == "héadline\n".encode()
    thread.join()
