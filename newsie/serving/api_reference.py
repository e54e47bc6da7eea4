"""The API reference page. It is built from the OpenAPI document and loads nothing from other hosts."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["REFERENCE_POLICY", "reference_html"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1d1b16; --soft: #5f5a50; --paper: #fbf9f4; --sheet: #fff;
  --line: #ddd6c8; --accent: #8c1c13; }
@media (prefers-color-scheme: dark) { :root { --ink: #ece7dc; --soft: #aaa392; --paper: #171511;
  --sheet: #201d18; --line: #3a352b; --accent: #f08a7d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.6 Georgia, "Times New Roman", serif; }
h1 { font-size: 2.5rem; line-height: 1.1; margin: 0; } h2 { margin: 3rem 0 1rem; font-size: 1.4rem;
  border-bottom: 3px double var(--line); padding-bottom: .3rem; }
a { color: var(--accent); } nav { columns: 3 14rem; margin: 1.5rem 0; } nav a { display: block; }
code, pre, summary { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .875rem; }
details { background: var(--sheet); border: 1px solid var(--line); border-radius: .4rem; margin: .6rem 0; }
summary { cursor: pointer; padding: .6rem .9rem; overflow-wrap: anywhere; }
summary b { display: inline-block; min-width: 3.2rem; color: var(--accent); }
summary span { color: var(--soft); font-family: Georgia, serif; margin-left: .6rem; }
details > div { padding: 0 .9rem .9rem; border-top: 1px solid var(--line); }
table { border-collapse: collapse; width: 100%; font-size: .925rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: normal; font-style: italic; }
pre { overflow-x: auto; background: var(--paper); border: 1px solid var(--line); padding: .7rem; }
p.soft, td.soft { color: var(--soft); }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
REFERENCE_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""The value of the header Content-Security-Policy to send with the page."""

Node = Mapping[str, Any]


def reference_html(document: Node, server: str) -> str:
    """Return an OpenAPI document (version 3.1) as one HTML page without a script.

    Args:
        document: the OpenAPI document.
        server: base URL of the server for the examples, such as "http://127.0.0.1:8000".
    """
    groups: dict[str, list[tuple[str, str, Node]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["Other"])[0]
            groups.setdefault(tag, []).append((method.upper(), path, operation))
    title = escape(document["info"]["title"])
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}: reference</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{title}</h1><p>{escape(document['info'].get('summary', ''))} Version ",
        f"{escape(document['info']['version'])}. The same for programs: ",
        '<a href="openapi.json">openapi.json</a>.</p><nav aria-label="Groups">',
        *(f'<a href="#{_anchor(tag)}">{escape(tag)}</a>' for tag in groups),
        "</nav>",
    ]
    for tag, operations in groups.items():
        parts.append(f'<section><h2 id="{_anchor(tag)}">{escape(tag)}</h2>')
        for method, path, operation in operations:
            parts += _operation(document, method, server, path, operation)
        parts.append("</section>")
    return "".join([*parts, "</main></body></html>"])


def _anchor(tag: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in tag.lower())


def _operation(
    document: Node, method: str, server: str, path: str, operation: Node
) -> Iterator[str]:
    told = escape(operation.get("description", operation.get("summary", "")))
    first = told.split(". ")[0].split(": ")[0].rstrip(".")
    yield f"<details><summary><b>{method}</b> {escape(path)}<span>{first}</span></summary><div>"
    yield f"<p>{told}</p>"
    yield from _parameters(operation)
    schema = _schema_of(operation.get("requestBody", {}))
    if schema is not None:
        yield "<h3>Request</h3>"
        yield from _fields(document, schema)
        yield from _example(document, method, server + path, schema)
    answers = operation.get("responses", {})
    schema = _schema_of(answers.get("200", {}))
    if schema:
        yield "<h3>Answer</h3>"
        yield from _fields(document, schema)
    yield "<h3>Codes</h3><table>"
    for code, answer in answers.items():
        yield f"<tr><td>{escape(code)}</td><td>{escape(answer.get('description', ''))}</td></tr>"
    yield "</table></div></details>"


def _parameters(operation: Node) -> Iterator[str]:
    shown = [p for p in operation.get("parameters", ()) if p["in"] != "header"]
    if shown:
        yield "<h3>Parameters</h3><table>"
        for one in shown:
            told = escape(one.get("description", ""))
            yield f"<tr><td><code>{escape(one['name'])}</code></td><td>{one['in']}</td><td>{told}</td></tr>"
        yield "</table>"


def _schema_of(holder: Node) -> Node | None:
    schema: Node | None = holder.get("content", {}).get("application/json", {}).get("schema")
    return schema


def _resolve(document: Node, schema: Node) -> Node:
    if "$ref" not in schema:
        return schema
    found: Node = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    return found


def _fields(document: Node, schema: Node) -> Iterator[str]:
    """Yield a table of the fields of each object that the schema allows."""
    for part in [_resolve(document, one) for one in _forms(schema)]:
        properties = part.get("properties", {})
        told = escape(part.get("description", ""))
        if not properties:
            yield f'<p class="soft"><code>{escape(_type(document, part))}</code> {told}</p>'
            continue
        yield f'<p class="soft">{told}</p><table>'
        for name, field in properties.items():
            needed = (
                "" if name in part.get("required", ()) else ' <span class="soft">optional</span>'
            )
            about = escape(field.get("description", ""))
            yield f"<tr><td><code>{escape(name)}</code>{needed}</td>"
            yield f"<td><code>{escape(_type(document, field))}</code></td><td>{about}</td></tr>"
        yield "</table>"


def _forms(schema: Node) -> Sequence[Node]:
    """Return the alternatives of a schema, or the schema itself if it has none."""
    return schema.get("anyOf") or schema.get("oneOf") or [schema]


def _type(document: Node, schema: Node) -> str:
    """Return the type of a schema in words, such as "list of {label, score}"."""
    if "$ref" in schema:
        inner = _resolve(document, schema)
        return "{" + ", ".join(inner.get("properties", {})) + "}"
    if len(forms := _forms(schema)) > 1:
        kinds = [_type(document, one) for one in forms if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in schema or "enum" in schema:
        return " or ".join(json.dumps(v) for v in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return "list of " + _type(document, schema.get("items", {}))
    if isinstance(extra := schema.get("additionalProperties"), Mapping):
        return "{name: " + _type(document, extra) + "}"
    return str(schema.get("type", "anything"))


def _example(document: Node, method: str, url: str, schema: Node) -> Iterator[str]:
    examples = _resolve(document, _forms(schema)[0]).get("examples")
    if examples:
        body = json.dumps(examples[0], ensure_ascii=False, indent=1)
        call = f"curl -X {method} {url} \\\n  -H 'Content-Type: application/json' \\\n  -d '{body}'"
        yield f"<pre>{escape(call, quote=False)}</pre>"
