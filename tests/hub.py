"""A stand-in for the Hugging Face hub: the part of its HTTP interface by which models are uploaded and
downloaded, with git LFS for large files, as huggingface_hub speaks it where Xet is switched off."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["TOKEN", "Hub", "running_hub"]

TOKEN = "hf_of_a_test"
LARGE_BYTES = 100_000
"""Files from this size on go through LFS."""


class Hub(ThreadingHTTPServer):
    """Repositories in memory.

    Attributes:
        calls: what was asked, as "POST /api/repos/create".
        private: repository -> whether it is.
        files: repository -> path -> content.
        commits: repository -> messages.
        large: content by sha256, as LFS stores it.
        read_only: the token may not write.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls: list[str] = []
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.commits: dict[str, list[str]] = {}
        self.large: dict[str, bytes] = {}
        self.read_only = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def revision(self, repository: str) -> str:
        """Id of the newest commit: of all that is in the repository."""
        digest = hashlib.sha1()
        for path, content in sorted(self.files[repository].items()):
            digest.update(path.encode() + b"\0" + hashlib.sha256(content).digest())
        return digest.hexdigest()


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def _answer(self, status: int, body: Any = b"", **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        headers.setdefault("Content-Type", "application/json")
        headers.setdefault("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _handle(self) -> None:
        path = self.path.split("?")[0]
        self.server.calls.append(f"{self.command} {path}")
        length = int(self.headers.get("Content-Length") or 0)
        body = self._chunks() if self.headers.get("Transfer-Encoding") else self.rfile.read(length)
        for method, pattern, handle in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in method.split("|"):
                if method != "PUT" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    self._answer(401, {"error": "Invalid username or password."})
                else:
                    handle(self, body, *found.groups())
                return
        self._answer(404, {"error": f"no route for {self.command} {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815

    def _chunks(self) -> bytes:
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        repository = f"{asked['organization']}/{asked['name']}"
        answer = {"url": f"{self.server.address}/{repository}", "name": repository}
        if self.server.read_only:
            self._answer(403, {"error": "You don't have the rights to create a model there."})
        elif repository in self.server.files:
            self._answer(409, {**answer, "error": "You already created this model repo"})
        else:
            self.server.files[repository], self.server.commits[repository] = {}, []
            self.server.private[repository] = asked.get("visibility") == "private"
            self._answer(200, answer)

    def validate(self, body: bytes) -> None:
        header = re.match(r"---\n.*?\n---\n", json.loads(body)["content"], re.DOTALL)
        missing = [] if header else [{"message": "empty or missing yaml metadata in repo card"}]
        self._answer(200, {"errors": [], "warnings": missing})

    def info(self, body: bytes, repository: str) -> None:
        if repository not in self.server.files:
            self._answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return
        siblings = [{"rfilename": path} for path in self.server.files[repository]]
        private = self.server.private[repository]
        sha = self.server.revision(repository)
        content = {"id": repository, "private": private, "sha": sha, "siblings": siblings}
        self._answer(200, content | {"tags": [], "downloads": 0, "likes": 0})

    def tree(self, body: bytes, repository: str) -> None:
        files = self.server.files[repository]
        self._answer(
            200,
            [
                {"type": "file", "path": path, "size": len(content), "oid": _oid(content)}
                for path, content in files.items()
            ],
        )

    def preupload(self, body: bytes, repository: str) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["size"] >= LARGE_BYTES else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._answer(200, {"files": files})

    def lfs_batch(self, body: bytes, repository: str) -> None:
        objects: list[dict[str, Any]] = []
        for asked in json.loads(body)["objects"]:
            found: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.server.large:
                address = f"{self.server.address}/lfs/{asked['oid']}"
                found["actions"] = {
                    "upload": {"href": address},
                    "verify": {"href": f"{self.server.address}/{repository}.git/info/lfs/verify"},
                }
            objects.append(found)
        self._answer(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            self._answer(400, {"error": "the content has another sha256"})
            return
        self.server.large[oid] = body
        self._answer(200)

    def lfs_verify(self, body: bytes, repository: str) -> None:
        asked = json.loads(body)
        there = len(self.server.large.get(asked["oid"], b"")) == asked["size"]
        self._answer(200 if there else 404, {})

    def commit(self, body: bytes, repository: str) -> None:
        files = dict(self.server.files[repository])
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                self.server.commits[repository].append(value["summary"])
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        self.server.files[repository] = files
        sha = self.server.revision(repository)
        address = f"{self.server.address}/{repository}/commit/{sha}"
        self._answer(200, {"commitUrl": address, "commitOid": sha, "success": True})

    def resolve(self, body: bytes, repository: str, path: str) -> None:
        content = self.server.files[repository].get(path)
        if content is None:
            self._answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
            return
        headers = {"X_Repo_Commit": self.server.revision(repository)}
        headers |= {"ETag": f'"{_oid(content)}"', "Content_Type": "application/octet-stream"}
        self._answer(200, content, **headers)


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


_ID = r"([\w.-]+/[\w.-]+)"
_ROUTES: list[tuple[str, str, Any]] = [
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("GET", rf"/api/models/{_ID}(?:/revision/\w+)?", _Handler.info),
    ("GET", rf"/api/models/{_ID}/tree/\w+", _Handler.tree),
    ("POST", rf"/api/models/{_ID}/preupload/main", _Handler.preupload),
    ("POST", rf"/api/models/{_ID}/commit/main", _Handler.commit),
    ("POST", rf"/{_ID}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("POST", rf"/{_ID}\.git/info/lfs/verify", _Handler.lfs_verify),
    ("PUT", r"/lfs/(\w+)", _Handler.lfs_put),
    ("GET|HEAD", rf"/{_ID}/resolve/\w+/(.+)", _Handler.resolve),
]
