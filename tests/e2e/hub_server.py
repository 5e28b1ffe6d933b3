"""A hub on loopback that speaks the Hugging Face hub's protocol, and misbehaves on demand.

Large files are redirected to a second port, which stands for the content network: a token that
arrives there has leaked.
"""
import collections
import functools
import hashlib
import http.server
import json
import re
import ssl
import threading
import time
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIECE = 1 << 16


def git_sha1(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(name):
    return name.endswith((".safetensors", ".gguf", ".bin"))


@functools.lru_cache(maxsize=64)
def etag_of(name, content):
    return hashlib.sha256(content).hexdigest() if is_large(name) else git_sha1(content)


class Hub:
    """One model. Faults are attributes; those that are deques happen once per entry."""

    def __init__(self, files, model="acme/tiny", commit=COMMIT, certificate=None):
        self.files, self.model, self.commit = dict(files), model, commit
        self.listed = None  # names to list instead
        self.token = None  # required where set
        self.etags, self.sizes = {}, {}  # lies, by name
        self.bodies = {}  # what is sent instead, by name: a deque, then the truth
        self.cuts = collections.defaultdict(collections.deque)  # bytes before a cut, by name
        self.statuses = collections.defaultdict(collections.deque)  # (status, headers), by name
        self.ignores_ranges = False
        self.bytes_per_second = None
        self.silent_after = collections.defaultdict(collections.deque)  # bytes, by name
        self.redirect_to = None  # where the files lie, instead of the second port
        self.sent = 0  # bytes of files, about
        self.requests = []  # (port's name, method, path, headers)
        self.ended = threading.Event()
        self.main = self._listen("hub", certificate)
        self.content = self._listen("content")
        scheme = "https" if certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self.main.server_port}"

    def _listen(self, port_name, certificate=None):
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                hub.answer(self, port_name)

            do_HEAD = do_GET

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ended.set()
        for server in (self.main, self.content):
            server.shutdown()
            server.server_close()

    def asked(self, method, fragment, port="hub"):
        return [r for r in self.requests if r[0] == port and r[1] == method and fragment in r[2]]

    # -- answers

    def answer(self, request, port_name):
        path = urllib.parse.unquote(urllib.parse.urlsplit(request.path).path)
        self.requests.append((port_name, request.command, path, dict(request.headers)))
        if port_name == "content":
            return self.send_file(request, path.removeprefix("/content/"))
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return self.send(request, 401, b"", {"X-Error-Code": "GatedRepo",
                                                 "X-Error-Message": "Access is restricted."})
        if path.startswith("/api/models/"):
            return self.send_listing(request, path.removeprefix("/api/models/"))
        found = re.fullmatch(rf"/{re.escape(self.model)}/resolve/([^/]+)/(.+)", path)
        if not found:
            return self.send(request, 404, b"", {"X-Error-Code": "RepoNotFound"})
        if found[1] not in (self.commit, "main"):
            return self.send(request, 404, b"", {"X-Error-Code": "RevisionNotFound"})
        self.send_resolved(request, found[2])

    def send(self, request, status, body, headers=None):
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    def send_listing(self, request, path):
        if self.statuses["listing"]:
            status, headers = self.statuses["listing"].popleft()
            return self.send(request, status, b"", headers)
        if not path.startswith(self.model):
            return self.send(request, 404, b"", {"X-Error-Code": "RepoNotFound"})
        rest = path.removeprefix(self.model).split("/")
        if len(rest) > 2 and rest[2] not in ("main", self.commit):
            return self.send(request, 404, b"", {"X-Error-Code": "RevisionNotFound"})
        if len(rest) > 1 and rest[1] == "tree":
            tree = [{"type": "file", "path": name, "size": len(content),
                     "oid": git_sha1(content),
                     **({"lfs": {"oid": etag_of(name, content), "size": len(content),
                                 "pointerSize": 130}} if is_large(name) else {})}
                    for name, content in self.files.items()]
            return self.send(request, 200, json.dumps(tree).encode(),
                             {"Content-Type": "application/json"})
        names = self.listed or list(self.files)
        body = {"id": self.model, "sha": self.commit,
                "siblings": [{"rfilename": name} for name in names]}
        self.send(request, 200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def send_resolved(self, request, name):
        if name not in self.files:
            return self.send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
        if request.command == "GET" and self.statuses[name]:
            status, headers = self.statuses[name].popleft()
            return self.send(request, status, b"", headers)
        content = self.files[name]
        etag = self.etags.get(name) or etag_of(name, content)
        size = self.sizes.get(name, len(content))
        head = {"X-Repo-Commit": self.commit, "ETag": f'"{etag}"'}
        if is_large(name):
            place = self.redirect_to or f"http://127.0.0.1:{self.content.server_port}"
            return self.send(request, 302, b"", {
                **head, "X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(size),
                "Location": f"{place}/content/{urllib.parse.quote(name)}?signature=secret"})
        self.send_file(request, name, head)

    def send_file(self, request, name, head=None):
        content = self.files[name]
        if self.bodies.get(name):
            content = self.bodies[name].popleft()
        begin, end, status = 0, len(content), 200
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        headers = dict(head or {})
        if wanted and not self.ignores_ranges:
            begin = int(wanted[1])
            end = min(int(wanted[2] or len(content) - 1) + 1, len(content))
            if begin >= len(content):
                return self.send(request, 416, b"")
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
            status = 206
        request.send_response(status)
        for field, value in headers.items():
            request.send_header(field, value)
        request.send_header("Content-Length", str(end - begin))
        request.end_headers()
        if request.command == "HEAD":
            return
        cut = self.cuts[name].popleft() if self.cuts[name] else None
        silent = self.silent_after[name].popleft() if self.silent_after[name] else None
        self.send_bytes(request, memoryview(content)[begin:end], cut, silent)

    def send_bytes(self, request, content, cut, silent):
        sent = 0
        while sent < len(content):
            if cut is not None and sent >= cut:
                request.close_connection = True
                request.connection.close()
                return
            if silent is not None and sent >= silent:
                self.ended.wait(60)
                return
            piece = content[sent:sent + PIECE]
            try:
                request.wfile.write(piece)
            except OSError:  # the other side has gone, as kill -9 does
                request.close_connection = True
                return
            sent += len(piece)
            self.sent += len(piece)
            if self.bytes_per_second:
                time.sleep(len(piece) / self.bytes_per_second)
