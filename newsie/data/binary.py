"""Binary access to files and open streams: decompressed, and converted to UTF-8."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import zlib
from pathlib import Path
from typing import IO, Any, Protocol, cast

from newsie.errors import InputError, MissingExtraError, ReadError

__all__ = [
    "COMPRESSIONS",
    "DAMAGE",
    "FileSource",
    "Source",
    "StreamSource",
    "Watch",
    "open_binary",
    "read_whole",
]

COMPRESSIONS = (".gz", ".zst")
DAMAGE = (EOFError, zlib.error, OSError)
"""The exceptions that reading raises if a file is damaged or ends early."""

GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"

# UTF-32 comes before UTF-16, because its little-endian mark begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
CHUNK_BYTES = 2**16

MAX_PEEKED_BYTES = 128 * 2**20
"""The most bytes of a stream to search for its first row; they are held in memory."""


class Watch:
    """The progress of reading a file."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._bytes = 0

    def start(self, file: IO[bytes]) -> None:
        """Start watching a file that was just opened."""
        self._file, self._bytes = file, os.fstat(file.fileno()).st_size

    def share(self) -> float:
        """Return the share of the file read so far, from 0 to 1."""
        if self._file is None or not self._bytes:
            return 0.0
        return 1.0 if self._file.closed else self._file.tell() / self._bytes


class Source(Protocol):
    """A file or an open stream: the interface that the readers of all text formats use.

    Attributes:
        name: the name for messages.
        once: True if the content can be read only once, and only as it arrives.
    """

    @property
    def name(self) -> str: ...

    @property
    def once(self) -> bool: ...

    def peek(self) -> IO[bytes]:
        """Open the content to look at its start. `open` still returns all of it."""
        ...

    def open(self, watch: Watch | None = None) -> IO[bytes]:
        """Open the content from its start."""
        ...


class FileSource:
    """A regular file, which is reopened each time."""

    once = False

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)

    def peek(self) -> IO[bytes]:
        """Open the file."""
        return open_binary(self.path)

    def open(self, watch: Watch | None = None) -> IO[bytes]:
        """Open the file."""
        return open_binary(self.path, watch)


class StreamSource:
    """An open stream of bytes or text: standard input, a pipe, an upload.

    Args:
        stream: the stream.
        name: the name for messages.
        max_bytes: the most bytes that it may hold once decompressed; None means no limit.
        owned: close the stream once it has been read.
    """

    once = True

    def __init__(
        self, stream: IO[Any], name: str, max_bytes: int | None = None, *, owned: bool = False
    ) -> None:
        self.name, self._max_bytes = name, max_bytes
        self._owned = stream if owned else None
        self._raw = _Raw(stream)
        self._opened = False

    def peek(self) -> IO[bytes]:
        """Open the start of the stream. The bytes read are kept, and `open` returns them again."""
        return self._unpack(_Peeked(self._raw, self.name))

    def open(self, watch: Watch | None = None) -> IO[bytes]:
        """Open the stream.

        Raises:
            InputError: the stream was opened before.
        """
        del watch  # the length of a stream is unknown
        if self._opened:
            raise InputError(f"{self.name} can be read only once; keep the articles in a list")
        self._opened = True
        return self._unpack(_Whole(self._raw, self._owned))

    def _unpack(self, raw: io.RawIOBase) -> IO[bytes]:
        content = _unpack(self.name, io.BufferedReader(raw, CHUNK_BYTES))
        if self._max_bytes is None:
            return content
        return io.BufferedReader(_Limited(content, self._max_bytes, self.name), CHUNK_BYTES)


class _Raw:
    """The bytes of a stream as they arrive.

    Attributes:
        seen: all bytes read so far by peeking.
    """

    def __init__(self, stream: IO[Any]) -> None:
        text = isinstance(stream, io.TextIOBase)
        self._read = getattr(
            stream, "readline" if text or not hasattr(stream, "read1") else "read1"
        )
        self._rest, self._started = b"", False
        self.seen = bytearray()

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, and at least one unless the stream is at its end."""
        chunk = self._rest or self._next(size)
        if not self._started:  # a byte order mark takes up to 4 bytes
            while len(chunk) < 4 and chunk[-1:] not in (b"", b"\n") and (more := self._next(size)):
                chunk += more
            self._started = True
        self._rest = chunk[size:]
        return chunk[:size]

    def _next(self, size: int) -> bytes:
        chunk = self._read(size)
        if isinstance(chunk, bytes):
            return chunk
        try:
            return str(chunk).encode("utf-8")
        except (
            UnicodeEncodeError
        ):  # bytes that were decoded with "surrogateescape", or lone surrogates
            escaped = all("\udc80" <= c <= "\udcff" for c in chunk if "\ud800" <= c <= "\udfff")
            return str(chunk).encode("utf-8", "surrogateescape" if escaped else "replace")


class _Peeked(io.RawIOBase):
    """A stream from its first byte on. The bytes read are kept."""

    def __init__(self, raw: _Raw, name: str) -> None:
        self._raw, self._name, self._position = raw, name, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size, seen = len(buffer), self._raw.seen
        if self._position == len(seen):
            if len(seen) >= MAX_PEEKED_BYTES:
                raise ReadError(
                    self._name,
                    f"the first {MAX_PEEKED_BYTES >> 20} MiB hold no row that can be read",
                )
            seen += self._raw.read(size)
        chunk = seen[self._position : self._position + size]
        self._position += len(chunk)
        buffer[: len(chunk)] = chunk
        return len(chunk)


class _Whole(io.RawIOBase):
    """A stream from its first byte on. The bytes read are not kept."""

    def __init__(self, raw: _Raw, owned: IO[Any] | None) -> None:
        self._owned = owned
        self._raw, self._start, raw.seen = raw, memoryview(bytes(raw.seen)), bytearray()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = len(buffer)
        chunk = self._start[:size] if self._start else self._raw.read(size)
        self._start = self._start[size:]
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        super().close()
        if self._owned is not None:
            self._owned.close()


class _Limited(io.RawIOBase):
    """A stream that raises an error once more than `max_bytes` are read from it."""

    def __init__(self, file: IO[bytes], max_bytes: int, name: str) -> None:
        self._file, self._left, self._max, self._name = file, max_bytes, max_bytes, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._file.read1(len(buffer))  # type: ignore[attr-defined]
        self._left -= len(chunk)
        if self._left < 0:
            raise ReadError(
                self._name,
                f"holds more than {self._max:,} bytes once it is decompressed; give fewer articles "
                "at a time",
            )
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        super().close()
        self._file.close()


def open_binary(path: Path, watch: Watch | None = None) -> IO[bytes]:
    """Open a file for reading. Gzip and Zstandard files are decompressed, and files with a UTF-16 or
    UTF-32 byte order mark are converted to UTF-8. `watch` follows the file.

    Raises:
        ReadError: the file cannot be opened, or is not compressed as its suffix says.
        MissingExtraError: a Zstandard file needs a package that is not installed.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise ReadError(path, f"cannot be opened: {error.strerror or error}") from error
    if watch is not None:
        watch.start(file)
    return _unpack(str(path), file, path.suffix.lower())


def read_whole(source: Source, max_bytes: int, advice: str) -> bytes:
    """Return all bytes of a source that has to be held in memory.

    Raises:
        ReadError: the source holds more than `max_bytes`, or is damaged.
    """
    with source.open() as stream:
        try:
            content = stream.read(max_bytes + 1)
        except DAMAGE as error:
            raise ReadError(source.name, f"the file is damaged or ends early: {error}") from error
    if len(content) > max_bytes:
        raise ReadError(source.name, f"holds more than {max_bytes >> 20} MiB; {advice}")
    return content


def _unpack(name: str, file: io.BufferedReader, suffix: str = "") -> IO[bytes]:
    """Return the content of a file, decompressed, and in UTF-8 if it begins with a byte order mark."""
    try:
        head = file.peek(4)[:4]
        content: io.BufferedReader = file
        if suffix == ".gz" or head.startswith(GZIP):
            content = cast(io.BufferedReader, _Unzipped(file))
        elif suffix == ".zst" or head.startswith(ZSTANDARD):
            content = _open_zstandard(file)
        if content is not file:
            head = content.peek(4)[:4]
    except DAMAGE as error:
        file.close()
        raise ReadError(name, f"cannot be read: {error}") from error
    encoding = next((MARKS[mark] for mark in MARKS if head.startswith(mark)), None)
    if encoding is None:
        return content
    return io.BufferedReader(_Recoded(content, encoding), CHUNK_BYTES)


class _Unzipped(gzip.GzipFile):
    """A gzip file that also closes the underlying file."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._below = file

    def close(self) -> None:
        super().close()
        self._below.close()


def _open_zstandard(file: IO[bytes]) -> io.BufferedReader:
    try:
        import pyarrow
    except ImportError:
        file.close()
        raise MissingExtraError("reading .zst files", "pyarrow", "parquet") from None
    return io.BufferedReader(pyarrow.input_stream(file, compression="zstd"))


class _Recoded(io.RawIOBase):
    """The content of a file, converted to UTF-8."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._file, self._encoding = file, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._rest, self._ended = b"", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest and not self._ended:
            self._rest = self._next()
        chunk, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def _next(self) -> bytes:
        chunk = self._file.read1(CHUNK_BYTES)  # type: ignore[attr-defined]
        self._ended = not chunk
        try:
            return self._decoder.decode(chunk, final=self._ended).encode("utf-8")
        except UnicodeDecodeError as error:
            raise OSError(f"not valid {self._encoding.upper()}: {error.reason}") from error

    def close(self) -> None:
        super().close()
        self._file.close()
