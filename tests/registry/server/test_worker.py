"""The worker of the web server: accepted requests, and limits of what a client can hold."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
import uuid
from collections import Counter
from contextlib import ExitStack, contextmanager

import pytest

from registry.server import connections
from registry.server.worker import TURNS
from tests.registry.server.program import FILE_BYTES, THREADS
from tests.support.programs import Daemon, environment_for, free_port, wait_until
from tests.support.server import SOURCE

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]

END = b"\r\n\r\n"
OK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Program(Daemon):
    def __init__(self, name: str, patience: float = connections.PATIENCE, processes: int = 1) -> None:
        super().__init__(name)
        self.arguments = [str(patience), str(processes)]

    def start(self) -> None:
        self.port = free_port()
        data = self.folder / "data"
        data.mkdir(mode=0o700)
        environment = environment_for(self.folder, KCR_DATA_DIR=str(data), DJANGO_SETTINGS_MODULE="registry.settings")
        command = [sys.executable, "-m", "tests.registry.server.program", str(self.port), *self.arguments]
        self.launch(command, environment, cwd=SOURCE)
        assert self.await_ready(self.answers), self.said()

    def connect(self, address: str = "127.0.0.1", *, receive_bytes: int = 0) -> socket.socket:
        """Open a connection from this address of the loopback network."""
        client = socket.socket()
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.bind((address, 0))
        client.settimeout(15)
        try:
            client.connect(("127.0.0.1", self.port))
        except OSError:
            client.close()
            raise
        return client

    def answers(self) -> bool:
        try:
            return self.ask("/") == b"ok"
        except OSError:
            return False

    def ask(self, path: str) -> bytes:
        with self.connect() as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            return read_all(client).partition(END)[2]

    def send(self, text: str, body: bytes = b"", *, end: bool = False) -> bytes:
        """Send lines and a body, and return the whole answer. ``end`` closes the client's side after them."""
        with self.connect() as client:
            client.sendall(text.replace("\n", "\r\n").encode("latin-1") + END + body)
            if end:
                client.shutdown(socket.SHUT_WR)
            return read_all(client)

    def worker_threads(self) -> int:
        return int(self.ask("/threads"))


def read_all(client: socket.socket, wait: float = 15) -> bytes:
    client.settimeout(wait)
    said = []
    try:
        while block := client.recv(1 << 20):
            said.append(block)
    except (TimeoutError, ConnectionResetError):
        pass
    return b"".join(said)


def status_of(answer: bytes) -> int:
    """Return the status of the last answer, 0 without one."""
    return int(answer.rpartition(b"HTTP/1.1 ")[2][:3] or 0) if b"HTTP/1.1 " in answer else 0


@pytest.fixture(scope="module")
def program():
    with Program("worker") as running:
        yield running


@contextmanager
def crowd(program, number: int, request: bytes, *, address: str = "127.0.0.2", receive_bytes: int = 0):
    """Open connections that send these bytes, and then neither read nor write nor close."""
    with ExitStack() as stack:
        clients = []
        for _ in range(number):
            client = stack.enter_context(program.connect(address, receive_bytes=receive_bytes))
            client.sendall(request)
            clients.append(client)
        yield clients


def longest_answer(program, tries: int = 5) -> float:
    """Return the seconds of the slowest of some requests."""
    slowest = 0.0
    for _ in range(tries):
        began = time.monotonic()
        assert program.ask("/") == b"ok"
        slowest = max(slowest, time.monotonic() - began)
    return slowest


# ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def chunked(*pieces: bytes, end: bool = True) -> bytes:
    return b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces) + b"0\r\n\r\n" * end


@pytest.mark.parametrize("path", ["/read", "/gather"])
def test_a_chunked_body_arrives_whole(program, path):
    key = uuid.uuid4().hex
    assert (
        status_of(
            program.send(
                f"POST {path}?{key} HTTP/1.1\nConnection: close\nTransfer-Encoding: chunked",
                chunked(b"hello", b"world"),
            )
        )
        == 200
    )
    assert json.loads(program.ask(f"/seen?{key}")) == {"bytes": 10, "error": ""}


CUT = {
    "in a chunk": ("Transfer-Encoding: chunked", chunked(b"hello", end=False) + b"a\r\nwor"),
    "between chunks": ("Transfer-Encoding: chunked", chunked(b"hello", end=False)),
    "in a length of a chunk": ("Transfer-Encoding: chunked", chunked(b"hello", end=False) + b"1"),
    "before the last line": ("Transfer-Encoding: chunked", chunked(b"hello", end=False) + b"0\r\n"),
    "with a bad length of a chunk": ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0x0\r\n\r\n"),
    "of a long body": ("Content-Length: 100000", b"x" * 40),
}


@pytest.mark.parametrize("path", ["/read", "/gather"])
@pytest.mark.parametrize("cut", CUT)
def test_truncated_body_is_an_error_for_the_application(program, cut, path):
    header, body = CUT[cut]
    key = uuid.uuid4().hex
    program.send(f"POST {path}?{key} HTTP/1.1\n{header}", body, end=True)
    seen = json.loads(program.ask(f"/seen?{key}"))
    assert seen["error"] or (seen["bytes"] < 100000 and "Length" in header)


def test_truncated_short_body_does_not_reach_the_application(program):
    key = uuid.uuid4().hex
    assert program.send(f"POST /read?{key} HTTP/1.1\nContent-Length: 100", b"x" * 40, end=True) == b""
    assert json.loads(program.ask(f"/seen?{key}")) is None


REFUSED = {
    "a length and chunks": ("POST / HTTP/1.1\nContent-Length: 5\nTransfer-Encoding: chunked", 400),
    "two lengths": ("POST / HTTP/1.1\nContent-Length: 5\nContent-Length: 6", 400),
    "the same length twice": ("POST / HTTP/1.1\nContent-Length: 5\nContent-Length: 5", 400),
    "a length with a sign": ("POST / HTTP/1.1\nContent-Length: +5", 400),
    "a length with a line": ("POST / HTTP/1.1\nContent-Length: 5_0", 400),
    "a coding that is unknown": ("POST / HTTP/1.1\nTransfer-Encoding: xchunked", 501),
    "a space before the colon": ("GET / HTTP/1.1\nX : y", 400),
    "a folded line": ("GET / HTTP/1.1\nX: y\n z", 400),
    "two hosts": ("GET / HTTP/1.1\nHost: a\nHost: b", 400),
    "a header without a name": ("GET / HTTP/1.1\n: y", 400),
    "a request of one word": ("GET", 400),
    "no version": ("GET /", 400),
    "a version that is unknown": ("GET / HTTP/3.0", 400),
    "a space in the path": ("GET /a b HTTP/1.0", 400),
    "many headers": ("GET / HTTP/1.1\n" + "\n".join(f"X{n}: y" for n in range(150)), 431),
    "a long header": ("GET / HTTP/1.1\nX: " + "y" * 9000, 431),
    "a long line": ("GET /" + "y" * 9000 + " HTTP/1.1", 414),
    "a head without an end": ("GET / HTTP/1.1\n" + "\n".join(f"X{n}: {'y' * 8000}" for n in range(20)), 431),
}


@pytest.mark.parametrize("shape", REFUSED)
def test_ambiguous_requests_are_refused_and_the_connection_closed(program, shape):
    text, status = REFUSED[shape]
    answer = program.send(text, b"hello")
    assert status_of(answer) == status
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in answer


def test_lines_that_end_with_a_line_feed_alone_are_refused(program):
    for lines in (b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"):
        with program.connect() as client:
            client.sendall(lines)
            assert status_of(read_all(client)) == 400


def test_no_header_sets_path_or_scheme(program):
    lines = (
        "SCRIPT_NAME: /environ\nSCRIPT-NAME: /x\nPATH_INFO: /x\nX-Forwarded-Proto: https\nX_Forwarded_For: 192.0.2.1"
    )
    answer = program.send(f"GET /environ HTTP/1.1\nHost: a\nConnection: close\n{lines}")
    environ = json.loads(answer.partition(END)[2])
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["wsgi.url_scheme"]) == ("", "/environ", "http")
    assert "HTTP_X_FORWARDED_FOR" not in environ


def test_expect_continue_is_answered_when_the_body_is_read(program):
    with program.connect() as client:
        client.sendall(b"POST /read HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello" + OK)
        answers = b""
        while answers.count(b"ok") < 2:
            answers += client.recv(1000)
    with program.connect() as client:  # the application reads nothing: no 100 Continue, and the connection is closed
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        answer = read_all(client)
    assert (status_of(answer), b"100 Continue" in answer, b"Connection: close" in answer) == (200, False, True)


def test_pipelined_requests_are_answered_in_order(program):
    with program.connect() as client:
        client.sendall(
            OK * 3
            + b"POST /read?p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
            + OK.replace(b"GET", b"HEAD")
            + b"GET /seen?p HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        answers = read_all(client)
    assert answers.count(b"HTTP/1.1 200") == 6
    assert json.loads(answers.rpartition(END)[2]) == {"bytes": 5, "error": ""}


def test_unread_body_is_not_read_as_the_next_request(program):
    with program.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(OK) + OK + OK)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client).count(b"HTTP/1.1 200") == 2
    with program.connect() as client:  # too long to be received already: answered, then closed
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + OK)
        answer = read_all(client)
    assert (answer.count(b"HTTP/1.1"), b"Connection: close" in answer) == (1, True)


def test_answer_reaches_a_client_that_still_sends(program):
    """Closing a connection with unread bytes resets it, and the client may lose the answer."""
    with program.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 300_000)
        time.sleep(0.3)
        client.sendall(b"x" * 300_000)
        assert status_of(read_all(client)) == 200


def test_http_1_0_client_is_answered_and_closed(program):
    answer = program.send("GET / HTTP/1.0")
    assert (status_of(answer.replace(b"HTTP/1.0", b"HTTP/1.1")), answer.endswith(b"ok")) == (200, True)


def test_failing_application_affects_one_answer_only(program):
    assert status_of(program.send("GET /broken HTTP/1.1\nHost: a")) == 500
    assert program.ask("/") == b"ok"


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("path", "size"), [("/file", FILE_BYTES), ("/text", 8 << 20)])
def test_a_large_answer_arrives_whole(program, path, size):
    assert len(program.ask(path)) == size


def test_slow_reader_gets_the_whole_file(program):
    with program.connect(receive_bytes=4096) as client:
        client.sendall(b"GET /file HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        time.sleep(1)  # the thread has handed the file over to epoll
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        assert len(read_all(client).partition(END)[2]) == FILE_BYTES


def test_the_next_request_follows_a_file_that_was_read_slowly(program):
    with program.connect(receive_bytes=65536) as client:
        client.sendall(b"GET /file HTTP/1.1\r\nHost: a\r\n\r\n" + OK)
        time.sleep(0.5)
        received = 0
        while received < FILE_BYTES:
            received += len(client.recv(1 << 20))
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert read_all(client).count(b"HTTP/1.1 200") >= 1


# ── Limits by client ─────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", id="do not hang up"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: ", id="half a head"),
        pytest.param(b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nemail=", id="half a form"),
        pytest.param(b"", id="silent"),
        pytest.param(OK, id="idle"),
    ],
)
def test_idle_clients_hold_no_thread(program, request_):
    before = program.worker_threads()
    with crowd(program, 4 * THREADS, request_):
        assert longest_answer(program) < 1
        assert program.worker_threads() <= before + 2


def test_stalled_readers_release_their_thread(program):
    with crowd(program, 4 * THREADS, b"GET /file HTTP/1.1\r\nHost: a\r\n\r\n", receive_bytes=4096):
        assert longest_answer(program) < 1


def test_busy_address_does_not_delay_another_address(program):
    """One address requests as many threads as exist. It gets a few at a time, and all answers in the end."""
    before = program.worker_threads()
    with crowd(program, THREADS, b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n") as clients:
        assert longest_answer(program) < 1
        assert program.worker_threads() - before <= 6 * TURNS
        answers = 0
        while answers < THREADS:
            program.ask("/release")
            answers += sum(status_of(client.recv(65536)) == 200 for client in select.select(clients, [], [], 0.2)[0])


def test_client_does_not_wait_for_an_earlier_crowd(program):
    before = int(program.ask("/count"))
    worker = int(program.ask("/process"))
    os.kill(worker, signal.SIGSTOP)
    try:
        request = b"GET /count HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        with crowd(program, 400, request), program.connect() as client:
            client.sendall(request)
            os.kill(worker, signal.SIGCONT)
            place = int(read_all(client).partition(END)[2]) - before
    finally:
        os.kill(worker, signal.SIGCONT)
    assert place < 100


def test_slow_requests_of_an_address_do_not_hold_up_its_quick_ones(program):
    with crowd(program, TURNS, b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"), program.connect("127.0.0.2") as client:
        client.sendall(OK)
        assert status_of(client.recv(65536)) == 200
        program.ask("/release")


def test_client_that_disconnects_in_the_queue_takes_no_turn(program):
    for _ in range(3):
        with crowd(program, 20, b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"):
            program.ask("/release")
    with program.connect("127.0.0.2") as client:
        client.sendall(OK)
        program.ask("/release")
        for _ in range(100):
            program.ask("/release")
            if select.select([client], [], [], 0.1)[0]:
                break
        assert status_of(client.recv(65536)) == 200


def test_one_address_cannot_use_all_transfers(program):
    head = b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
    with crowd(program, THREADS, head + b"x") as clients:
        assert longest_answer(program) < 1
        end, refused = time.monotonic() + 10, []
        while len(refused) < THREADS - THREADS // 4 and time.monotonic() < end:
            time.sleep(0.1)
            refused = select.select(clients, [], [], 0)[0]  # the application got an error and answered
        assert len(refused) == THREADS - THREADS // 4
        with program.connect("127.0.0.3") as other:  # another address still has its share
            other.sendall(head + b"x" * 1_000_000)
            assert status_of(other.recv(65536)) == 200


def test_unread_streams_count_as_transfers(program):
    with crowd(program, THREADS, b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n", receive_bytes=4096) as clients:
        assert longest_answer(program) < 1
        end = time.monotonic() + 10
        while int(program.ask("/pieces")) < THREADS // 4 and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(0.5)
        assert int(program.ask("/pieces")) == THREADS // 4  # the application waits for the readers
        assert sum(b" 429 " in client.recv(40) for client in clients) == THREADS - THREADS // 4


def test_unread_answers_do_not_fill_the_memory(program):
    """A network may have 16 MiB of unread answers in the memory of a process: two of these fit, the others are cut."""
    with crowd(program, 8, b"GET /text HTTP/1.1\r\nHost: a\r\n\r\n", receive_bytes=4096) as clients:
        assert longest_answer(program) < 1
        time.sleep(1)
        whole = [len(read_all(client, 1)) > 8 << 20 for client in clients]
    assert 1 <= whole.count(True) <= 3


def test_blocked_thread_is_replaced(program):
    with crowd(program, 8, b"GET /busy HTTP/1.1\r\nHost: a\r\n\r\n"):
        began = time.monotonic()
        assert program.ask("/") == b"ok"
        assert time.monotonic() - began < 2  # eight times 0.3 s in sequence would be more


# ── Stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_running_download_is_finished_when_the_server_stops():
    with Program("stopping") as program, program.connect(receive_bytes=65536) as client:
        client.sendall(b"GET /file HTTP/1.1\r\nHost: a\r\n\r\n")
        received = len(client.recv(65536))
        idle = program.connect()
        idle.sendall(OK)
        idle.recv(65536)
        program.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        while block := client.recv(1 << 20):
            received += len(block)
        assert received > FILE_BYTES
        idle.close()
        assert program.stop() == 0


# ── Time limits ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def hasty():
    """The same program with a time limit of one second."""
    with Program("hasty", patience=1.0) as running:
        yield running


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(b"GET / HTTP/1.1\r\nX: ", id="head"),
        pytest.param(b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", id="form"),
    ],
)
def test_request_head_and_form_have_a_total_time_limit(hasty, beginning):
    with hasty.connect() as client:
        client.sendall(beginning)
        client.settimeout(0.2)
        began, said = time.monotonic(), b""
        while time.monotonic() - began < 10:
            try:
                said = client.recv(1000)
                break
            except TimeoutError:
                client.sendall(b"x")
        assert status_of(said) == 408


def test_stalled_body_is_closed(hasty):
    key = uuid.uuid4().hex
    with hasty.connect() as client:
        client.sendall(f"POST /read?{key} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n".encode())
        for _ in range(4):  # more than a second in total, but progress in each second
            client.sendall(b"x" * connections.LEAST_BYTES)
            time.sleep(0.5)
        assert b"Connection: close" in read_all(client)
    seen = json.loads(hasty.ask(f"/seen?{key}"))
    assert (seen["error"], seen["bytes"]) == ("TooSlow", 4 * connections.LEAST_BYTES)


@pytest.mark.parametrize("path", ["/file", "/stream", "/text"])
def test_stalled_reader_is_closed(hasty, path):
    with hasty.connect(receive_bytes=4096) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        time.sleep(3)
        sizes = {"/file": FILE_BYTES, "/text": 8 << 20, "/stream": 1 << 40}
        assert 0 < len(read_all(client)) < sizes[path]  # closed by the server


def test_a_silent_connection_is_closed(hasty):
    for beginning in (b"", OK):
        with hasty.connect() as client:
            client.sendall(beginning)
            assert read_all(client, 10).count(b"HTTP") == len(beginning[:1])


# ── Several processes ────────────────────────────────────────────────────────────────────────────────────────────────
def served_by(program, number: int) -> Counter[int]:
    """Open connections, then ask over each which process has it."""
    with crowd(program, number, b"") as clients:
        for client in clients:
            client.sendall(b"GET /process HTTP/1.1\r\nHost: a\r\n\r\n")
        return Counter(int(client.recv(65536).partition(END)[2]) for client in clients)


def test_processes_share_the_connections():
    with Program("shared", processes=2) as program:
        assert wait_until(lambda: len(served_by(program, 20)) == 2, timeout=60)  # both have started
        served = served_by(program, 200)
        assert min(served.values()) >= 50
        # A process that does not answer keeps no connection from the other one, though it has fewer.
        with crowd(program, 20, OK):
            stopped = next(iter(served))
            os.kill(stopped, signal.SIGSTOP)
            try:
                assert longest_answer(program, 20) < 5
            finally:
                os.kill(stopped, signal.SIGCONT)
