"""A local endpoint with the part of the Hugging Face Hub's interface that uploading and downloading a model use."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

COMMIT = "a" * 40


@contextmanager
def local_hub() -> Iterator[tuple[str, dict[str, dict[str, bytes]]]]:
    """Run the endpoint; yield its address and its repositories, name -> file -> content."""
    repositories: dict[str, dict[str, bytes]] = {}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            del format, args

        def answer(self, content: Any, status: int = 200, **headers: str) -> None:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def do_GET(self) -> None:
            words = urlsplit(self.path).path.strip("/").split("/")
            is_api = words[:2] == ["api", "models"]
            name = "/".join(words[2:4] if is_api else words[:2])
            if name not in repositories:
                self.answer({}, 404, X_Error_Code="RepoNotFound", X_Error_Message="Repository Not Found")
                return
            files = repositories[name]
            if not is_api:
                data = files[words[-1]]
                self.answer(data, X_Repo_Commit=COMMIT, ETag=f'"{hashlib.sha256(data).hexdigest()}"')
            elif "tree" in words:
                self.answer(
                    [
                        {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                        for file, data in files.items()
                    ]
                )
            else:
                siblings = [{"rfilename": file} for file in files]
                facts = {"id": name, "sha": COMMIT, "private": False, "tags": [], "downloads": 0, "likes": 0}
                self.answer(facts | {"siblings": siblings})

        do_HEAD = do_GET

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            words = urlsplit(self.path).path.strip("/").split("/")
            name = "/".join(words[2:4])
            if words == ["api", "repos", "create"]:
                facts = json.loads(body)
                name = f"{facts.get('organization', 'someone')}/{facts['name']}"
                repositories.setdefault(name, {})
                self.answer({"url": f"{address}/{name}", "name": name, "id": "1"})
            elif words == ["api", "validate-yaml"]:  # the front matter of a model card
                self.answer({"errors": [], "warnings": []})
            elif "preupload" in words:
                files = [part["path"] for part in json.loads(body)["files"]]
                modes = [{"path": file, "uploadMode": "regular", "shouldIgnore": False} for file in files]
                self.answer({"files": modes})
            else:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        repositories[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                self.answer({"commitUrl": f"{address}/{name}/commit/{COMMIT}", "commitOid": COMMIT})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield address, repositories
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
