"""Pushing: a server of our own stands for the hub and keeps what it is sent. Nothing leaves this machine."""

import base64
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from commands import start
from exports import VIT, digest_of

from crossteach import export_run
from crossteach.errors import HubError


class Hub(ThreadingHTTPServer):
    """Answers as the hub does when a repository is made and small files are committed."""

    asked: list[tuple[str, str, bytes]]
    may_write = True


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, self.headers.get("authorization", ""), body))
        here = f"http://127.0.0.1:{self.server.server_port}/ORG/NAME"
        content: dict[str, object] = {}
        if self.path == "/api/repos/create":
            content = {"url": here, "id": "1", "name": "ORG/NAME"}
        elif "/preupload/" in self.path:
            files = [each["path"] for each in json.loads(body)["files"]]
            content = {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in files]}
        elif "/commit/" in self.path:
            content = {"commitUrl": f"{here}/commit/0", "commitOid": "0"}
        self.answer(200 if self.server.may_write else 403, content)

    def do_GET(self) -> None:
        self.answer(404, {})

    def answer(self, code: int, content: dict[str, object]) -> None:
        text = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def push(
    run: Path, out: Path, home: Path, port: int, *more: object, token: str = "hf_of_nobody"
) -> tuple[int, str, str]:
    """Export and push in a process of its own, to the hub at this port, with this token and no other."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    changes = {
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "HF_HOME": str(home),
        **({"HF_TOKEN": token} if token else {}),
    }
    with pytest.MonkeyPatch.context() as patch:
        for key in set(os.environ) - set(kept):
            patch.delenv(key)
        for key, value in changes.items():
            patch.setenv(key, value)
        process = start("export", run, "--to", "timm", "--out", out, "--push-to-hub", "ORG/NAME", *more)
    told, error = process.communicate(timeout=120)
    return process.returncode, told, error


def test_a_push_sends_the_export_and_nothing_else_to_a_private_repository(teach, hub, tmp_path):
    code, told, error = push(teach(VIT), tmp_path / "export", tmp_path / "home", hub.server_port, "--json")
    assert (code, error) == (0, "")
    assert json.loads(told)["url"] == f"http://127.0.0.1:{hub.server_port}/ORG/NAME"
    by_path = {path: body for path, _, body in hub.asked}
    made = json.loads(by_path["/api/repos/create"])
    assert made == {"name": "NAME", "organization": "ORG", "visibility": "private"}
    lines = [json.loads(line) for line in by_path["/api/models/ORG/NAME/commit/main"].splitlines()]
    assert lines[0]["value"]["summary"] == "Student exported by crossteach"
    sent = {each["value"]["path"]: base64.b64decode(each["value"]["content"]) for each in lines[1:]}
    assert sent == digest_of(tmp_path / "export")
    assert {token for _, token, _ in hub.asked} == {"Bearer hf_of_nobody"}


def test_a_hub_that_refuses_or_is_not_there_is_one_line_and_the_export_stays(teach, hub, tmp_path):
    run, out = teach(VIT), tmp_path / "export"
    hub.may_write = False
    for port in (hub.server_port, 9):
        code, told, error = push(run, out, tmp_path / "home", port)
        assert (code, told, error.count("\n")) == (1, "", 1)
        assert error.startswith(f"crossteach: {out} is whole, but was not sent to ORG/NAME (")
        assert (out / "model.safetensors").is_file()


def test_without_a_token_nothing_is_begun(teach, hub, tmp_path):
    code, _, error = push(teach(VIT), tmp_path / "export", tmp_path / "home", hub.server_port, token="")
    assert code == 1 and error.count("\n") == 1
    assert "nobody is logged in to the Hugging Face hub" in error
    assert not (tmp_path / "export").exists() and not hub.asked


@pytest.mark.parametrize("name", ["NAME", "a/b/c", "ORG/..", "ORG/na me", ""])
def test_a_name_that_the_hub_would_refuse_is_refused_before_any_work(tmp_path, name):
    with pytest.raises(HubError, match="must be ORG/NAME, not"):
        export_run(tmp_path / "no run", "timm", tmp_path / "export", push_to=name)
