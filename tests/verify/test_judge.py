"""The optional judge, against a small server of the same interface."""

import asyncio
import contextlib
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from limo_ray.verify import Verdict, VerificationError, Verifier, verdict_key
from limo_ray.verify.judge import Judge, JudgeConfig, is_words, read


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("CORRECT", Verdict.CORRECT),
        ("INCORRECT", Verdict.WRONG),
        (" **Correct.**\n", Verdict.CORRECT),
        ("'incorrect'", Verdict.WRONG),
        ("<think>it looks incorrect, no, correct</think>\nINCORRECT", Verdict.WRONG),
        ("The answer is correct", Verdict.ERROR),
        ("CORRECT INCORRECT", Verdict.ERROR),
        ("not correct", Verdict.ERROR),
        ("", Verdict.ERROR),
    ],
)
def test_only_one_word_counts(reply: str, verdict: Verdict) -> None:
    assert read(reply) is verdict


class Server(ThreadingHTTPServer):
    """Gives its replies in turn: a status and a text."""

    replies: list[tuple[int, str]]
    requests: list[dict[str, object]]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append({"path": self.path, **json.loads(body), **self.headers})
        status, text = self.server.replies.pop(0)
        reply = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.replies, server.requests = [], []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def judge(server: Server, **options: object) -> Judge:
    url = f"http://127.0.0.1:{server.server_port}/v1"
    return Judge(JudgeConfig(url=url, model="judge-32b", wait_s=0.01, **options))  # type: ignore[arg-type]


def test_it_asks_once_and_remembers(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    server.replies = [(200, "INCORRECT"), (200, "CORRECT")]
    asked = judge(server)
    assert asked.judge("Why?", "because", "no reason") is Verdict.WRONG
    assert asked.judge("Why?", "because", "no reason") is Verdict.WRONG
    assert asyncio.run(asked.ajudge("Why?", "because", "since \ud800")) is Verdict.CORRECT
    assert asked.judge("Why?", "because", None) is Verdict.UNPARSED
    assert len(server.requests) == 2
    request = server.requests[0]
    assert request["path"] == "/v1/chat/completions"
    assert request["model"] == "judge-32b"
    assert request["temperature"] == 0
    assert request["Authorization"] == "Bearer sk-test"
    assert "no reason" in str(request["messages"])


GOLD, OTHER = "The men's track team", "\\boxed{the track team of the men}"


def test_a_verifier_asks_it_about_words_that_the_rules_call_wrong(server: Server) -> None:
    server.replies = [(200, "CORRECT"), (200, "INCORRECT")]
    cfg = JudgeConfig(url=f"http://127.0.0.1:{server.server_port}/v1", model="m", wait_s=0.01)
    with Verifier(judge=cfg) as verifier:
        assert verifier.check(GOLD, OTHER, question="Who?").verdict is Verdict.CORRECT
        said = asyncio.run(verifier.averify(GOLD, "\\boxed{the women}", question="Who?"))
        assert said.verdict is Verdict.WRONG and said.extracted == "the women"
        # Without a call: the rules agree, the answer is a number, there is none to judge.
        assert verifier.check(GOLD, f"\\boxed{{{GOLD}}}").verdict is Verdict.CORRECT
        assert verifier.check("7", "\\boxed{8}").verdict is Verdict.WRONG
        assert verifier.check(GOLD, "").verdict is Verdict.UNPARSED
    assert len(server.requests) == 2
    assert "Who?" in str(server.requests[0]["messages"])
    with Verifier() as plain:
        assert plain.check(GOLD, OTHER).verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("answer", "free"),
    [(GOLD, True), ("\\text{even}", True), ("Evelyn", True), ("\\frac{\\pi}{2}", False),
     ("12", False), ("x = 5", False), ("\\sin x", False), ("sin(x)", False), ("(C)", False),
     ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", False)],
)  # fmt: skip
def test_which_answers_are_words(answer: str, free: bool) -> None:
    assert is_words(answer) is free


def test_another_judge_is_another_verdict_key() -> None:
    one, other = (JudgeConfig(url="http://localhost/v1", model=name) for name in ("a", "b"))
    keys = [verdict_key(GOLD, "math", each) for each in (None, JudgeConfig(), one, other)]
    assert keys[0] == keys[1] and len(set(keys)) == 3
    assert verdict_key("7", "math", one) == verdict_key("7", "math")  # it has no say there


def test_it_tries_again(server: Server) -> None:
    server.replies = [(500, ""), (429, ""), (200, "hm"), (200, "correct")]
    assert judge(server).judge("q", "a", "b") is Verdict.CORRECT


def test_it_gives_up(server: Server) -> None:
    server.replies = [(503, ""), (200, "both may be right")]
    assert judge(server, attempts=1).judge("q", "a", "b") is Verdict.ERROR
    assert server.replies == []


def test_no_server_is_an_error() -> None:
    nowhere = JudgeConfig(url="http://127.0.0.1:9/v1", model="m", wait_s=0.1, patience_s=0.5)
    began = time.monotonic()
    assert Judge(nowhere).judge("q", "a", "b") is Verdict.ERROR
    assert 0.1 < time.monotonic() - began < 30


def test_a_refusal_stops_the_run(server: Server) -> None:
    server.replies = [(401, "")]
    with pytest.raises(VerificationError, match="401"):
        judge(server).judge("q", "a", "b")


def test_a_refusal_after_a_reply_will_pass(server: Server) -> None:
    server.replies = [(200, "CORRECT"), (404, ""), (401, ""), (200, "INCORRECT")]
    asked = judge(server)
    assert asked.judge("q", "a", "b") is Verdict.CORRECT
    assert asked.judge("q", "a", "c") is Verdict.WRONG  # the endpoint was being restarted
    assert server.replies == []


RIGHT = json.dumps({"choices": [{"message": {"content": "CORRECT"}}]}).encode()
OK = b"HTTP/1.1 200 OK\r\n"
FAULTS = {
    "nothing": b"",
    "garbage": b"\xff\x00 what is HTTP?\r\n\r\n",
    "status": b"HTTP/1.1 abc\r\n\r\n",
    "html": OK + b"Content-Length: 20\r\n\r\n<html>sorry!!</html>",
    "cut": OK + b"Content-Length: 500\r\n\r\n" + RIGHT,
    "null": OK + b"Connection: close\r\n\r\n" + RIGHT.replace(b'"CORRECT"', b"null"),
    "number": OK + b"Connection: close\r\n\r\n" + RIGHT.replace(b'"CORRECT"', b"7"),
    "no choices": OK + b"Connection: close\r\n\r\n" + b'{"choices": []}',
    "a list": OK + b"Connection: close\r\n\r\n" + b"[1, 2]",
    "nested": OK + b"Connection: close\r\n\r\n" + b"[" * 200_000,
    "unicode": OK + b"Connection: close\r\n\r\n" + b"\xff\xfe\x00",
    "zipped": OK + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + RIGHT,
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
    "teapot": b"HTTP/1.1 530 ?\r\nContent-Length: 0\r\n\r\n",
}


class Faulty(socketserver.ThreadingTCPServer):
    """Sends a fault `faults` times, then a right reply."""

    daemon_threads = True
    fault: str
    faults: int
    closing = False


class Sender(socketserver.BaseRequestHandler):
    server: Faulty

    def handle(self) -> None:
        self.request.recv(100_000)
        fault, self.server.faults = self.server.fault, self.server.faults - 1
        with contextlib.suppress(OSError):
            if self.server.faults < 0:
                self.request.sendall(OK + b"Connection: close\r\n\r\n" + RIGHT)
            elif fault in ("endless", "dripping", "dripping headers"):
                self.request.sendall(OK + b"\r\n" * (fault != "dripping headers"))
                while not self.server.closing:
                    self.request.sendall(b"x: y\r\n" if "drip" in fault else b" " * 100_000)
                    time.sleep(0.05 * ("drip" in fault))
            else:
                self.request.sendall(FAULTS[fault])


@pytest.fixture
def faulty(request: pytest.FixtureRequest) -> Iterator[Faulty]:
    with Faulty(("127.0.0.1", 0), Sender) as server:
        server.fault, server.faults = request.param, 2
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.closing = True
        server.shutdown()


@pytest.mark.parametrize(
    "faulty", [*FAULTS, "endless", "dripping", "dripping headers"], indirect=True
)
def test_an_odd_reply_is_asked_for_again_and_then_an_error(faulty: Faulty) -> None:
    url = f"http://127.0.0.1:{faulty.server_address[1]}/v1"
    times = {"timeout_s": 0.5, "wait_s": 0.01}
    patient = Judge(JudgeConfig(url=url, model="m", **times))  # type: ignore[arg-type]
    assert patient.judge("q", "a", "b") is Verdict.CORRECT
    faulty.faults = 1_000_000
    began = time.monotonic()
    hasty = Judge(JudgeConfig(url=url, model="m", patience_s=0.3, **times))  # type: ignore[arg-type]
    assert hasty.judge("q", "a", "b") is Verdict.ERROR
    assert time.monotonic() - began < 30
    faulty.faults = 0
    assert hasty.judge("q", "a", "c") is Verdict.CORRECT  # that one answer only


def test_closing_ends_the_patience(server: Server) -> None:
    server.replies = [(503, "")] * 100
    asked = judge(server)
    asked.cfg.wait_s = 60
    threading.Timer(0.3, asked.close).start()
    began = time.monotonic()
    assert asked.judge("q", "a", "b") is Verdict.ERROR
    assert time.monotonic() - began < 30


def test_the_address_is_checked() -> None:
    with pytest.raises(ValueError, match="url"):
        Judge(JudgeConfig(url="file:///etc/passwd", model="m"))
    with pytest.raises(ValueError, match="url"):
        Judge(JudgeConfig(model="m"))
