"""A web server on the loopback that serves one file, and misbehaves as told."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Behaviour:
    """What the server does wrong.

    Attributes:
        cuts: how many answers end early, at a random byte of their first half.
        seed: of those bytes.
        lie: "" for none; "ignores": answers 200 with everything; "shifted": serves a range that begins seven bytes
            later, and says so;
            "claims": other bytes than the range it claims; "probe": serves the first byte as asked, and later ignores.
        corrupt: position of a byte that is sent inverted.
        corrupt_times: how often; after that it is sent right.
        etag: of the file.
        log: (first byte, bytes sent) of every answer.
    """

    cuts: int = 0
    seed: int = 0
    lie: str = ""
    corrupt: int | None = None
    corrupt_times: int = 1_000_000
    etag: str = '"one"'
    log: list[tuple[int, int]] = field(default_factory=list)


@contextmanager
def serve(content: bytes, behaviour: Behaviour | None = None) -> Iterator[str]:
    """Yields the address of the file."""
    how = behaviour or Behaviour()
    kind = type("Handler", (_Handler,), {"content": content, "how": how, "draw": random.Random(how.seed)})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/imagebind_huge.pth"
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    content: bytes
    how: Behaviour
    draw: random.Random

    def do_GET(self) -> None:
        start, end, status = self._range()
        body = self.content[start:end]
        if status == 206 and self.how.lie == "claims":
            body = self.content[: end - start]
        self.send_response(status)
        self.send_header("ETag", self.how.etag)
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(self.content)}")
        self.send_header("Connection", "close")
        self.end_headers()
        body = self._cut(self._damaged(body, start))
        self.how.log.append((start, len(body)))
        self.wfile.write(body)
        self.close_connection = True

    def _range(self) -> tuple[int, int, int]:
        asked = self.headers.get("Range")
        stale = self.headers.get("If-Range") not in (None, self.how.etag)
        ignores = self.how.lie == "ignores" or (self.how.lie == "probe" and asked != "bytes=0-0")
        if asked is None or stale or ignores:
            return 0, len(self.content), 200
        start, end = asked.removeprefix("bytes=").split("-")
        late = 7 if self.how.lie == "shifted" and asked != "bytes=0-0" else 0
        return int(start) + late, min(int(end) + 1, len(self.content)), 206

    def _damaged(self, body: bytes, start: int) -> bytes:
        at = None if self.how.corrupt is None else self.how.corrupt - start
        if at is None or not 0 <= at < len(body) or not self.how.corrupt_times:
            return body
        self.how.corrupt_times -= 1
        return body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :]

    def _cut(self, body: bytes) -> bytes:
        if not self.how.cuts or len(body) < 2:
            return body
        self.how.cuts -= 1
        return body[: self.draw.randrange(len(body) // 2 + 1)]

    def log_message(self, *_: Any) -> None:
        pass
