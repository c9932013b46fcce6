"""Serve a built site as a host of static pages does: compressed, kept alive, cacheable."""

import functools
import gzip
import http.server
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMPRESSED = {".html", ".css", ".js", ".json", ".svg", ".xml", ".txt", ".py", ".ipynb", ".md"}


@functools.cache
def _gzip(path: Path, changed: int) -> bytes:
    return gzip.compress(path.read_bytes(), 6, mtime=0)


class Host(http.server.SimpleHTTPRequestHandler):
    """What GitHub Pages does with a file: gzip for text, ten minutes in the browser's cache."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments, sent: list[tuple[str, int]], **settings):
        self.sent = sent
        super().__init__(*arguments, **settings)

    def send_head(self) -> io.BytesIO | None:
        path = Path(self.translate_path(self.path))
        if path.is_dir():
            if not self.path.partition("?")[0].endswith("/"):
                return super().send_head()  # redirects to the address with a slash
            path /= "index.html"
        status = 200
        if not path.is_file():
            status, path = 404, Path(self.directory) / "404.html"
        compressed = path.suffix in COMPRESSED
        body = _gzip(path, path.stat().st_mtime_ns) if compressed else path.read_bytes()
        self.send_response(status)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=600")
        if compressed:
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Vary", "Accept-Encoding")
        self.sent.append((self.path, len(body) + sum(map(len, self._headers_buffer))))
        self.end_headers()
        return io.BytesIO(body)

    def log_message(self, *arguments) -> None:
        pass


@contextmanager
def serve(site: Path, port: int = 0) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """Serve the folder while the block runs.

    Yields `host:port`, and the list of what was sent: each path with its bytes, headers included.
    """
    sent: list[tuple[str, int]] = []
    handler = functools.partial(Host, directory=site, sent=sent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", sent
        server.shutdown()
