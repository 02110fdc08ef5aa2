"""A hub on this machine: folders served as repositories, as huggingface_hub asks for them."""

import json
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

COMMIT = "0123456789" * 4


class Hub(ThreadingHTTPServer):
    """Serves root/owner/name, and misbehaves as told; `asked` is every file that was fetched."""

    daemon_threads = True

    def __init__(self, root: Path):
        super().__init__(("127.0.0.1", 0), Answer)
        self.root = root
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.refusals: dict[str, tuple[int, dict]] = {}  # of a repository: status and headers
        self.refused_files: dict[str, tuple[int, dict]] = {}  # the same, of its files only
        self.pause = 0.0  # before every answer
        self.dies_at: int | None = None  # byte of every file at which the connection breaks
        self.revisions = {"main"}

    def handle_error(self, request, client_address):
        """A client that gave up is not worth a traceback."""


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        time.sleep(self.server.pause)
        token = self.headers.get("Authorization")
        self.server.tokens.add(token and token.removeprefix("Bearer "))
        path = urlsplit(self.path).path.strip("/")  # to a proxy it comes with the host before it
        if path.startswith("api/models/"):
            self.listing(path.removeprefix("api/models/"))
        else:
            owner, name, _, revision, *file = path.split("/")
            self.file(f"{owner}/{name}", revision, "/".join(file))

    def listing(self, path: str):
        repository, _, revision = path.partition("/revision/")
        folder = self.server.root / repository
        if repository in self.server.refusals:
            self.say(*self.server.refusals[repository])
        elif not folder.is_dir():
            self.say(404, {"X-Error-Code": "RepoNotFound"})
        elif revision and revision not in self.server.revisions:
            self.say(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            files = [f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()]
            siblings = [{"rfilename": file} for file in sorted(files)]
            body = json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
            self.say(200, {"Content-Type": "application/json"}, body)

    def file(self, repository: str, revision: str, name: str):
        path = self.server.root / repository / name
        if repository in self.server.refused_files:
            return self.say(*self.server.refused_files[repository])
        if not path.is_file():
            return self.say(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        body, start = path.read_bytes(), 0
        headers = {
            "ETag": f'"{len(body)}-{abs(hash((repository, name)))}"',
            "X-Repo-Commit": COMMIT,
        }
        if self.command == "GET":
            self.server.asked.append(name)
            if "Range" in self.headers:
                start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.say(206 if start else 200, headers, body[start:], self.server.dies_at)

    def say(self, status: int, headers: dict, body: bytes = b"", dies_at: int | None = None):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body if dies_at is None else body[:dies_at])
            self.close_connection = True

    def log_message(self, *said):
        """Nothing on stderr: tests read it."""


@contextmanager
def serving(root: Path):
    """A running Hub."""
    hub = Hub(root)
    Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield hub
    hub.shutdown()
    hub.server_close()
