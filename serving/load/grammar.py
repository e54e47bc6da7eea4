"""Requests with bodies of JSON and of what is nearly JSON, drawn from a grammar."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from typing import Any

__all__ = ["KINDS", "draw_request"]

TEXT = "the late goal at the derby — an Überraschung, 東京 and 😀 "
STRING_UNITS = (
    "a",
    "é",
    "漢",
    "😀",
    " ",
    "[",
    ",",
    '\\"',
    "\\\\",
    "\\n",
    "\\u00e9",
    "\\ud83d\\ude00",
)
BROKEN_UNITS = ("\\", "\\u12", "\\ud800", "\x00", "\\x", '"')
DIGITS = ("1", "0", "-", ".5", "1e", "e9", "99999")
OTHER_ENCODINGS = (
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "utf-32-be",
    "latin-1",
    "utf-8-sig",
)
LARGE_SHARE, LARGEST = 0.004, 2_100_000
"""The share of sizes that reach a little beyond the largest body; the others reach 10 kB."""

TEMPLATES: tuple[tuple[str, Any], ...] = (
    ("/v1/classify", {"articles": [{"headline": TEXT, "body": TEXT, "id": "1"}], "top_k": 3}),
    ("/v1/explain", {"article": {"headline": "late goal"}}),
    ("/", {"inputs": TEXT, "parameters": {"top_k": 2, "function_to_apply": "sigmoid"}}),
    ("/predict", {"inputs": [[TEXT], [TEXT]], "raw_scores": False, "truncate": True}),
    ("/invocations", {"inputs": [TEXT, TEXT]}),
    (
        "/v2/models/default/infer",
        {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}]},
    ),
)
TYPES = ("text/plain", "application/json; charset=utf-16", "application/xml", "")

Chance = random.Random


def draw_request(chance: Chance) -> tuple[str, bytes]:
    """A kind of request and its bytes, for a connection that is kept."""
    kind = chance.choice(tuple(KINDS))
    path, template = chance.choice(TEMPLATES)
    body = KINDS[kind](chance, template)
    head = [f"POST {path} HTTP/1.1", "Host: localhost"]
    given = chance.choice(TYPES) if chance.random() < 0.03 else "application/json"
    head += [f"Content-Type: {given}"] if given else []
    if chance.random() < 0.05:
        body = gzip.compress(body, 1)
        head.append("Content-Encoding: gzip")
    if chance.random() < 0.05:
        head.append("Transfer-Encoding: chunked")
        body = _chunks(chance, body)
    else:
        head.append(f"Content-Length: {len(body)}")
    return kind, "\r\n".join([*head, "", ""]).encode() + body


def _chunks(chance: Chance, body: bytes) -> bytes:
    step = max(1, len(body) // chance.randint(1, 200))
    parts = [body[start : start + step] for start in range(0, len(body), step)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def _size(chance: Chance) -> int:
    if chance.random() < LARGE_SHARE:
        return chance.randint(10_000, LARGEST)
    return int(10 ** chance.uniform(0.5, 4))


def _dump(chance: Chance, value: Any) -> bytes:
    indent = chance.choice((None, None, 1))
    return json.dumps(value, ensure_ascii=chance.random() < 0.5, indent=indent).encode()


def _value(chance: Chance, depth: int = 4) -> Any:
    """A random value."""
    kind = chance.randrange(8 if depth else 6)
    if kind == 6:
        return [_value(chance, depth - 1) for _ in range(chance.randrange(5))]
    if kind == 7:
        return {_word(chance): _value(chance, depth - 1) for _ in range(chance.randrange(5))}
    number = chance.choice((0, -1, 1.5, 2**63, 1e300, chance.randrange(10**9)))
    return (None, chance.random() < 0.5, number, _word(chance), TEXT, "")[kind]


def _word(chance: Chance) -> str:
    known = ("inputs", "articles", "headline", "tasks", "top_k", "parameters", "data", "shape", "x")
    return chance.choice(known) if chance.random() < 0.7 else str(chance.random())


def _changed(chance: Chance, value: Any) -> Any:
    """A copy of a value with one part replaced, added or left out."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        name = chance.choice(tuple(value))
        match chance.randrange(6):
            case 0:
                return {**value, _word(chance): _value(chance)}
            case 1:
                return {other: part for other, part in value.items() if other != name}
            case _:
                return {**value, name: _changed(chance, value[name])}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        return [*value[:place], _changed(chance, value[place]), *value[place + 1 :]]
    return _value(chance)


def _broken(chance: Chance, template: Any) -> bytes:
    body = bytearray(_dump(chance, template))
    for _ in range(chance.randint(1, 5)):
        place = chance.randrange(len(body))
        body[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        body = body or bytearray(b"x")
    return bytes(body)


def _deep(chance: Chance, template: Any) -> bytes:
    opening = chance.choice((b"[", b'{"a":', b"[[],", b'[{"inputs":'))
    count = max(1, _size(chance) // len(opening))
    closing = b"]" * count if opening == b"[" and chance.random() < 0.5 else b""
    return opening * count + closing


def _around_text(chance: Chance, template: Any, text: bytes) -> bytes:
    """The template with this in the place of its first text, as it is."""
    return _dump(chance, template).replace(json.dumps(TEXT).encode(), text, 1)


def _long_string(chance: Chance, template: Any) -> bytes:
    unit = chance.choice(STRING_UNITS).encode()
    end = b'"' if chance.random() < 0.7 else b""
    return _around_text(chance, template, b'"' + unit * (_size(chance) // len(unit)) + end)


def _bad_string(chance: Chance, template: Any) -> bytes:
    unit = chance.choice(BROKEN_UNITS).encode()
    text = b'"' + unit * (_size(chance) // len(unit)) + b'"'
    return chance.choice((text, b"[" * 33 + text, _around_text(chance, template, text)))


def _numbers(chance: Chance, template: Any) -> bytes:
    digits = chance.choice(DIGITS).encode()
    number = chance.choice((b"", b"1", b"-1.", b"1e")) + digits * (_size(chance) // len(digits))
    return b'{"articles":[{"headline":"a"}],"top_k":' + number + b"}"


def _many(chance: Chance, template: Any) -> bytes:
    item = chance.choice((b"0", b"[]", b"{}", b'"a"', b'{"headline":"a"}', b'["a"]', b"null"))
    items = b",".join([item] * (1 + _size(chance) // (len(item) + 1)))
    start = chance.choice((b'{"articles":[', b'{"inputs":[', b"["))
    return start + items + (b"]}" if start[:1] == b"{" else b"]")


def _unknown_keys(chance: Chance, template: Any) -> bytes:
    keys = [f'"{chance.random()}":{number}' for number in range(1 + _size(chance) // 25)]
    return (_dump(chance, template).rstrip(b"}\n") + b"," + ",".join(keys).encode())[
        :LARGEST
    ] + b"}"


def _other_encoding(chance: Chance, template: Any) -> bytes:
    text = _dump(chance, template).decode()
    return text.encode(chance.choice(OTHER_ENCODINGS), "replace")


def _cut(chance: Chance, template: Any) -> bytes:
    body = _dump(chance, template)
    return body[: chance.randrange(len(body))]


KINDS: dict[str, Callable[[Chance, Any], bytes]] = {
    "valid": _dump,
    "changed": lambda chance, template: _dump(chance, _changed(chance, template)),
    "random": lambda chance, template: _dump(chance, _value(chance)),
    "broken": _broken,
    "cut": _cut,
    "deep": _deep,
    "long string": _long_string,
    "bad string": _bad_string,
    "long number": _numbers,
    "many values": _many,
    "unknown keys": _unknown_keys,
    "other encoding": _other_encoding,
    "blanks": lambda chance, template: b" \n" * _size(chance) + _dump(chance, template),
}
