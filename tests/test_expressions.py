"""Every regular expression of the library takes time in proportion to its text, whatever the text is.

Texts come from strangers: requests, files, names of labels. An expression that goes back over what it has
read can take the square of its length, and then a request of 64 kB takes seconds.
"""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from tests.test_architecture import ROOT as PACKAGE

ROOT = PACKAGE.parent
Method = Literal["search", "match", "fullmatch"]
SIZES = (24, 16_000)
"""Lengths of texts. The small one ends the test where the time grows so fast that the large would not end."""

SECONDS = 0.08
"""Processor time for the largest: a hundred times what it takes in proportion, a tenth of the square."""

BUILT = {
    ("newsie/labels.py", "fullmatch"): "of a task's name, for one name",
    ("newsie/serving/page.py", "findall"): "reads the page that is part of the package",
}
"""Expressions that are put together when they are used: where, the method, and why they are not tried."""

ENDS = ("", "\x01", "~~")
CATEGORIES = {
    "CATEGORY_SPACE": " \n",
    "CATEGORY_NOT_SPACE": "a.",
    "CATEGORY_DIGIT": "1",
    "CATEGORY_NOT_DIGIT": "a ",
    "CATEGORY_WORD": "a1_",
    "CATEGORY_NOT_WORD": " .",
}
ANYWHERE = {"search", "sub", "subn", "split", "findall", "finditer"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / "newsie").rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def name_of(node: ast.expr) -> str:
    """The last name of an expression: of `_END[kind]` it is _END."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=value):
            return name_of(value)
    return ""


def methods() -> dict[str, set[str]]:
    """Name -> the methods that are called of something of that name."""
    found = defaultdict(set)
    for _, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                found[name_of(node.func.value)].add(node.func.attr)
            if isinstance(node, ast.Attribute):  # handed on, as in map(_NAME.fullmatch, names)
                found[name_of(node.value)].add(node.attr)
    return found


def expressions() -> Iterator[tuple[str, re.Pattern[Any], Method]]:
    """Every expression, with where it is and how it is applied."""
    called = methods()
    for file, tree in modules():
        yield from _written_where_used(file, tree)
        if "re.compile(" not in (ROOT / file).read_text(encoding="utf-8"):
            continue
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        for name, value in vars(module).items():
            for pattern in [*value, *value.values()] if isinstance(value, dict) else [value]:
                if isinstance(pattern, re.Pattern):
                    yield f"{file} {name}", pattern, _method(called[name])


def _method(called: set[str]) -> Method:
    if called & ANYWHERE or not called & {"match", "fullmatch"}:
        return "search"
    return "match" if "match" in called else "fullmatch"


def _written_where_used(
    file: str, tree: ast.Module
) -> Iterator[tuple[str, re.Pattern[Any], Method]]:
    """The expressions of calls such as `re.split("...", text)`, and those compiled in functions."""
    inside = {n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if name_of(node.func.value) != "re" or (node.func.attr == "compile" and node not in inside):
            continue
        if node.func.attr in ("escape", "purge"):
            continue
        method = node.func.attr
        if method == "compile":
            assert isinstance(node.args[0], ast.Constant) or (file, "fullmatch") in BUILT, file
            method = "fullmatch" if (file, "fullmatch") in BUILT else "search"
        if isinstance(node.args[0], ast.Constant):
            yield f"{file}:{node.lineno}", re.compile(str(node.args[0].value)), _method({method})
        else:
            assert (file, method) in BUILT, (
                f"{file}:{node.lineno}: {method} of an expression made there"
            )


FOUND = list(expressions())


def samples(tree: Any) -> list[str]:
    """Some texts that a parsed expression takes, one for each alternative and each kind of character."""
    texts = [""]
    for operation, argument in tree:
        parts = _samples_of(str(operation), argument)
        texts = [text + parts[0] for text in texts] + [texts[0] + part for part in parts[1:]]
    return texts[:60]


def _samples_of(operation: str, argument: Any) -> list[str]:
    match operation:
        case "LITERAL":
            return [chr(argument)]
        case "NOT_LITERAL" | "ANY":
            return ["a", " ", "<"] if argument != ord("a") else ["b"]
        case "IN":
            return _characters(argument)
        case "BRANCH":
            return [text for branch in argument[1] for text in samples(branch)]
        case "SUBPATTERN":
            return samples(argument[3])
        case "ATOMIC_GROUP":
            return samples(argument)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least = max(1, argument[0])
            return [text * least for text in samples(argument[2])]
    return [""]  # places and what is looked at ahead


def _characters(items: Any) -> list[str]:
    found: list[str] = []
    for kind, argument in items:
        match str(kind):
            case "LITERAL":
                found.append(chr(argument))
            case "RANGE":
                found.append(chr(argument[0]))
            case "CATEGORY":
                found += CATEGORIES[str(argument)]
            case "NEGATE":
                negated = re.compile(f"[{''.join(map(re.escape, _characters(items[1:])))}]")
                return [one for one in "a <.[\n\u00e9" if not negated.match(one)] or ["\u4e00"]
    return found


def repeats(tree: Any) -> Iterator[list[str]]:
    """For every repetition in a parsed expression, texts of what is repeated."""
    for operation, argument in tree:
        match str(operation):
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                yield samples(argument[2])
                yield from repeats(argument[2])
            case "BRANCH":
                for branch in argument[1]:
                    yield from repeats(branch)
            case "SUBPATTERN":
                yield from repeats(argument[3])
            case "ATOMIC_GROUP":
                yield from repeats(argument)


def attacks(pattern: re.Pattern[Any]) -> set[tuple[str, str]]:
    """Beginnings and units of texts that make an expression go back, if anything does."""
    source = (
        pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    )
    tree = re._parser.parse(source, pattern.flags & ~re.UNICODE)
    wholes = samples(tree)
    units = {text for group in repeats(tree) for text in group if text}
    units |= {text for text in wholes if text} | {text[:-1] for text in wholes if text[:-1]}
    characters = {one for text in wholes for one in text}
    # Where any character is taken, it may be one that stands elsewhere in the expression too.
    signs = {one for one in characters if not one.isalnum()}
    units |= characters | {
        unit.replace("a", sign) for unit in units for sign in signs if "a" in unit
    }
    starts = {"", wholes[0], wholes[0][:-1], wholes[0][:1]}
    return {(start, unit) for start in starts for unit in units}


def slowest(pattern: re.Pattern[Any], method: Method) -> tuple[float, str]:
    """The processor time of the slowest attack, and which it is."""
    apply, worst = getattr(pattern, method), (0.0, "")
    for size in SIZES:
        for start, unit in attacks(pattern):
            for end in ENDS:
                text: Any = start + unit * (size // len(unit)) + end
                if isinstance(pattern.pattern, bytes):
                    text = text.encode("latin-1", "replace")
                began = time.thread_time()
                apply(text)
                worst = max(worst, (time.thread_time() - began, repr((start, unit, end, size))))
                if worst[0] > SECONDS:
                    return worst
    return worst


def test_all_are_found() -> None:
    assert len(FOUND) > 35
    wheres = " ".join(where for where, _, _ in FOUND)
    for part in ("http/request_bodies", "data/cleaning", "doctor/texts", "cli/", "manifest", "hub"):
        assert part in wheres
    written = sum((ROOT / file).read_text("utf-8").count("re.compile(") for file, _ in modules())
    assert len([where for where, _, _ in FOUND if ":" not in where]) >= written - len(BUILT) - 2


@pytest.mark.parametrize(
    ("pattern", "method"),
    [pytest.param(pattern, method, id=where) for where, pattern, method in FOUND],
)
def test_the_time_is_in_proportion_to_the_text(pattern: re.Pattern[Any], method: Method) -> None:
    seconds, attack = slowest(pattern, method)
    assert seconds < SECONDS, f"{pattern.pattern!r} takes {seconds:.2f} s for {attack}"


@pytest.mark.parametrize(
    ("source", "method"),
    [
        (r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', "search"),
        (r"\s+[|•]\s+", "search"),
        (r"(?:\.(?:com|org))+$", "search"),
        (r"(\w+\s?)+$", "fullmatch"),
        (r"(a+)+b", "match"),
        (r"<[^>]*>", "search"),
        (r"\w+@\w+", "search"),
    ],
)
def test_those_that_are_not_are_noticed(source: str, method: Method) -> None:
    assert slowest(re.compile(source, re.DOTALL), method)[0] > SECONDS
