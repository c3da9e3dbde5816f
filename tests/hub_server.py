"""A server that speaks as much of the hub's protocol as head files and tables need, on this machine."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import huggingface_hub
import pytest
from huggingface_hub import constants

from cokv_bench.hub import fetch, list_files


@dataclass
class Hub:
    """Repositories and what was asked of them.

    Attributes:
        files: content by "OWNER/REPO/FILE", of data sets by "datasets/OWNER/REPO/FILE".
        cut: how many answers to a download end in the middle.
        spoiled: whether downloads have other bytes than were announced.
        asked: method and path of each request.
        ranges: of the downloads that asked for a part.
        private: repositories that were made, and whether they are private.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cut: int = 0
    spoiled: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    private: dict[str, bool] = field(default_factory=dict)
    url: str = ""
    commits: int = 0

    @property
    def commit(self) -> str:
        """Of all repositories; a new one after each change."""
        return f"{self.commits:040x}"


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def _say(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _json(self, document: Any) -> None:
            self._say(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            hub.asked.append((self.command, self.path))
            path = self.path.split("?")[0].strip("/")
            if "/tree/" in path:
                self._tree(*path.removeprefix("api/").removeprefix("models/").split("/tree/"))
                return
            if "/resolve/" not in path:
                self._json({"id": path, "sha": hub.commit, "siblings": []})
                return
            repository, rest = path.split("/resolve/")
            revision, file = rest.split("/", 1)
            if repository not in hub.private and not any(name.startswith(f"{repository}/") for name in hub.files):
                self._say(404, b"", {"X-Error-Code": "RepoNotFound"})
                return
            content = hub.files.get(f"{repository}/{file}")
            if unquote(revision) not in ("main", "v1", "refs/pr/3", "my/branch", hub.commit):
                self._say(404, b"", {"X-Error-Code": "RevisionNotFound"})
                return
            if content is None:
                self._say(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": hub.commit})
                return
            tag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            headers = {"ETag": f'"{tag}"', "X-Repo-Commit": hub.commit, "Accept-Ranges": "bytes"}
            if self.command == "HEAD":
                self._say(200, content, headers)
                return
            status, body = 200, content
            if hub.spoiled:
                body = content.replace(b"1", b"2")
            if asked := self.headers.get("Range"):
                hub.ranges.append(asked)
                first = int(asked.removeprefix("bytes=").split("-")[0])
                status, body = 206, body[first:]
                headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            if hub.cut:
                hub.cut -= 1
                self.send_response(status)
                for key, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self._say(status, body, headers)

        def _tree(self, repository: str, revision: str) -> None:
            names = [name for name in hub.files if name.startswith(f"{repository}/")]
            if not names or revision not in ("main", "v1"):
                self._say(404, b"", {"X-Error-Code": "RevisionNotFound" if names else "RepoNotFound"})
                return
            paths = [name.removeprefix(f"{repository}/") for name in names]
            self._json([{"type": "file", "path": path, "size": 1, "oid": "0" * 40} for path in paths])

        def do_POST(self) -> None:
            hub.asked.append((self.command, self.path))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.split("?")[0].strip("/")
            if path == "api/repos/create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
                hub.private[name] = bool(asked.get("private") or asked.get("visibility") == "private")
                self._json({"url": f"{hub.url}/{name}", "id": name})
            elif "/preupload/" in path:
                files = [
                    {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for each in json.loads(body)["files"]
                ]
                self._json({"files": files})
            elif "/commit/" in path:
                repository = path.removeprefix("api/models/").split("/commit/")[0]
                for line in body.decode().splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        value = entry["value"]
                        hub.files[f"{repository}/{value['path']}"] = base64.b64decode(value["content"])
                hub.commits += 1
                url = f"{hub.url}/{repository}/commit/{hub.commit}"
                self._json({"success": True, "commitOid": hub.commit, "commitUrl": url})
            else:
                self._json({})

    return Handler


@contextmanager
def local_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub of this process while the block runs, with a cache in that folder."""
    with serving() as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        template = "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", found.url + template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
        offline(monkeypatch, False)
        yield found
    forget()


def offline(monkeypatch: pytest.MonkeyPatch, is_off: bool) -> None:
    """Leave the network, or come back to it, as HF_HUB_OFFLINE does for a new process."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", is_off)
    huggingface_hub.close_session()
    forget()


def forget() -> None:
    """What this process knows of the hub, as a new one would."""
    fetch.cache_clear()
    list_files.cache_clear()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub while the block runs."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
