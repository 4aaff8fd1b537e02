"""A server on localhost that speaks the parts of the Hub's API that grids use: jobs, buckets, and downloads of their files.

What it was sent is kept, so that tests can look at it. Its files are stored as the Hub stores them (Xet): a listing names a
hash, a reconstruction names blocks of bytes, and blocks are read by range.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

TOKEN = "hf_of_alice"
USER = "alice"
TIME = "2026-01-01T00:00:{:02d}.000Z"


@dataclass
class Received:
    """One request, as it came in."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: Any


@dataclass
class JobsServer:
    """What the server has, and what it was sent."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    printed: dict[str, list[str]] = field(default_factory=dict)
    later: dict[str, list[str]] = field(default_factory=dict)
    """What a job prints after its log was read once; then it has ended."""
    buckets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refusals: list[tuple[str, int, str]] = field(default_factory=list)
    """Path (a regular expression), status and message: each answers one request."""

    def set_stage(self, job: str, stage: str, message: str | None = None) -> None:
        self.jobs[job]["status"] = {"stage": stage, "message": message}

    def sent(self, method: str, pattern: str) -> list[Received]:
        """The requests of a method whose path matches whole."""
        return [one for one in self.received if one.method == method and re.fullmatch(pattern, one.path)]

    def add_job(self, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
        number = len(self.jobs)
        job = {
            "id": f"{0x6870F00D0000 + number:024x}",
            "createdAt": TIME.format(number),
            "owner": {"id": "1", "name": namespace, "type": "user"},
            "status": {"stage": "SCHEDULING", "message": None},
            **{name: spec.get(name) for name in ("command", "arguments", "environment", "flavor", "labels")},
            "dockerImage": spec.get("dockerImage"),
            "secrets": dict.fromkeys(spec.get("secrets", {})),
        }
        self.jobs[job["id"]] = job
        return job


@contextmanager
def jobs_server() -> Iterator[JobsServer]:
    """The server, at work on a port of localhost."""
    state = JobsServer()

    class Handler(_Handler):
        server_state = state

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: JobsServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        state, parts = self.server_state, urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        one = Received(
            self.command,
            parts.path,
            parse_qsl(parts.query),
            {name.lower(): value for name, value in self.headers.items()},
            json.loads(body) if body else None,
        )
        state.received.append(one)
        for refusal in state.refusals:
            if re.fullmatch(refusal[0], one.path):
                state.refusals.remove(refusal)
                return self._send({"error": refusal[2]}, refusal[1])
        is_open = one.path.startswith(("/xet/", "/v1/", "/v2/")) or one.path == "/api/jobs/hardware"
        if not is_open and one.headers.get("authorization") != f"Bearer {TOKEN}":
            return self._send({"error": "Invalid username or password."}, 401)
        for method, pattern, answer in _ROUTES:
            match = re.fullmatch(pattern, one.path)
            if method == one.method and match:
                return answer(self, one, *(unquote(group or "") for group in match.groups()))
        return self._send({"error": f"no route {one.method} {one.path}"}, 404)

    def _send(self, content: Any, status: int = 200, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def whoami(self, one: Received) -> None:
        self._send({"type": "user", "name": USER, "auth": {"type": "access_token"}})

    def hardware(self, one: Received) -> None:
        common = {"cpu": "4 vCPU", "ram": "15 GB", "accelerator": None}
        listed = [("cpu-basic", 0.000167, "minute"), ("a10g-small", 1.0, "hour"), ("odd", 1.0, "fortnight")]
        self._send(
            [
                {
                    **common,
                    "name": name,
                    "prettyName": name,
                    "unitCostMicroUSD": cost * 1e6,
                    "unitCostUSD": cost,
                    "unitLabel": unit,
                }
                for name, cost, unit in listed
            ]
        )

    def run_job(self, one: Received, namespace: str) -> None:
        self._send(self.server_state.add_job(namespace, one.body))

    def list_jobs(self, one: Received, namespace: str) -> None:
        """Two a page, newest first, as the real listing goes on with a link."""
        wanted = dict(value.split("=", 1) for name, value in one.query if name == "label")
        jobs = [
            job
            for job in reversed(self.server_state.jobs.values())
            if job["owner"]["name"] == namespace and wanted.items() <= (job["labels"] or {}).items()
        ]
        page = int(dict(one.query).get("cursor", 0))
        query = urlsplit(self.path).query.split("&cursor=")[0]
        further = f"<{self.server_state.url}{one.path}?{query}&cursor={page + 2}>; rel=next"
        self._send(jobs[page : page + 2], **({"Link": further} if len(jobs) > page + 2 else {}))

    def inspect_job(self, one: Received, namespace: str, job: str) -> None:
        found = self.server_state.jobs.get(job)
        self._send(found or {"error": "Job not found"}, 200 if found else 404)

    def cancel_job(self, one: Received, namespace: str, job: str) -> None:
        found = self.server_state.jobs.get(job)
        if found is None:
            return self._send({"error": "Job not found"}, 404)
        if found["status"]["stage"] not in ("SCHEDULING", "RUNNING"):
            return self._send({"error": "Job is not running"}, 400)
        self.server_state.set_stage(job, "CANCELED")
        return self._send(found)

    def logs(self, one: Received, namespace: str, job: str) -> None:
        if job not in self.server_state.jobs:
            return self._send({"error": "Job not found"}, 404)
        lines = ["===== Job started at 2026-01-01 00:00:00 =====", *self.server_state.printed.get(job, [])]
        events = "".join(
            f"data: {json.dumps({'data': line, 'timestamp': TIME.format(1)})}\n\n" for line in lines
        )
        if job in self.server_state.later:
            self.server_state.printed[job] = [*lines[1:], *self.server_state.later.pop(job)]
            self.server_state.set_stage(job, "RUNNING")
        else:
            self.server_state.set_stage(job, "COMPLETED")
        return self._send(f": keep-alive\n\n{events}".encode())

    def make_bucket(self, one: Received, namespace: str, name: str) -> None:
        url = {"url": f"{self.server_state.url}/buckets/{namespace}/{name}"}
        is_new = f"{namespace}/{name}" not in self.server_state.buckets
        self.server_state.buckets.setdefault(f"{namespace}/{name}", {})
        self._send(url if is_new else {**url, "error": "exists"}, 200 if is_new else 409)

    def tree(self, one: Received, bucket: str, prefix: str) -> None:
        if bucket not in self.server_state.buckets:
            return self._send({"error": "no bucket"}, 404, X_Error_Code="RepoNotFound")
        files = {
            path: content
            for path, content in self.server_state.buckets[bucket].items()
            if path.startswith(prefix)
        }
        if not files:
            return self._send({"error": "no such path"}, 404, X_Error_Code="EntryNotFound")
        return self._send(
            [
                {
                    "type": "file",
                    "path": path,
                    "size": len(content),
                    "xetHash": content_hash(content),
                    "mtime": TIME.format(0),
                }
                for path, content in files.items()
            ]
        )

    def resolve(self, one: Received, bucket: str, path: str) -> None:
        content = self.server_state.buckets[bucket][path]
        self._send(
            b"",
            X_Xet_Hash=content_hash(content),
            X_Linked_Size=str(len(content)),
            Link=f'<{self.server_state.url}/xet/token>; rel="xet-auth"',
        )

    def xet_token(self, one: Received) -> None:
        url = self.server_state.url
        self._send(
            {"accessToken": "of-a-day", "exp": 4102444800, "casUrl": url},
            X_Xet_Access_Token="of-a-day",
            X_Xet_Token_Expiration="4102444800",
            X_Xet_Cas_Url=url,
        )

    def _content(self, wanted: str) -> bytes:
        files = [content for bucket in self.server_state.buckets.values() for content in bucket.values()]
        return next(content for content in files if content_hash(content) == wanted)

    def reconstruction(self, one: Received, wanted: str) -> None:
        content = self._content(wanted)
        block = {"start": 0, "end": 1}
        fetch = {
            "range": block,
            "url": f"{self.server_state.url}/xet/block/{wanted}",
            "url_range": {"start": 0, "end": len(_block(content)) - 1},
        }
        self._send(
            {
                "offset_into_first_range": 0,
                "terms": [{"hash": wanted, "unpacked_length": len(content), "range": block}],
                "fetch_info": {wanted: [fetch]},
            }
        )

    def xet_block(self, one: Received, wanted: str) -> None:
        data = _block(self._content(wanted))
        self._send(data, 206, Content_Range=f"bytes 0-{len(data) - 1}/{len(data)}")


def content_hash(content: bytes) -> str:
    """The name by which the server stores the content of a file."""
    return hashlib.sha256(content).hexdigest()


def _block(content: bytes) -> bytes:
    """One uncompressed chunk with its header: version, stored length, scheme, length."""
    length = len(content).to_bytes(3, "little")
    return b"\0" + length + b"\0" + length + content


_ONE = "([^/]+)"
_ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/api/whoami-v2", _Handler.whoami),
    ("GET", "/api/jobs/hardware", _Handler.hardware),
    ("POST", f"/api/jobs/{_ONE}", _Handler.run_job),
    ("GET", f"/api/jobs/{_ONE}", _Handler.list_jobs),
    ("GET", f"/api/jobs/{_ONE}/{_ONE}", _Handler.inspect_job),
    ("POST", f"/api/jobs/{_ONE}/{_ONE}/cancel", _Handler.cancel_job),
    ("GET", f"/api/jobs/{_ONE}/{_ONE}/logs", _Handler.logs),
    ("POST", f"/api/buckets/{_ONE}/{_ONE}", _Handler.make_bucket),
    ("GET", "/api/buckets/([^/]+/[^/]+)/tree(?:/(.*))?", _Handler.tree),
    ("HEAD", "/buckets/([^/]+/[^/]+)/resolve/(.+)", _Handler.resolve),
    ("GET", "/xet/token", _Handler.xet_token),
    ("GET", f"/v1/reconstructions/{_ONE}", _Handler.reconstruction),
    ("GET", f"/xet/block/{_ONE}", _Handler.xet_block),
]
