"""Shares of budgets by client, and the threads that wait for events in turn."""

from __future__ import annotations

import os
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from accounts.networks import network_of
from registry.database.sqlite.log import Log
from registry.database.sqlite.turns import Turns as WriteTurns
from registry.server.clients import address_of
from registry.server.shares import Shares, Turns
from registry.server.threads import Threads, about_to_wait
from registry.storage import filesystem


def test_client_gets_its_share_and_all_clients_get_the_total():
    shares = Shares(total=5, each=2)
    assert [shares.take("a") for _ in range(3)] == [True, True, False]
    assert [shares.take("b") for _ in range(3)] == [True, True, False]
    assert [shares.take("c") for _ in range(2)] == [True, False]
    shares.give_back("a")
    assert shares.take("a")
    assert shares.held == shares.total == 5


def test_several_units_are_taken_at_once():
    shares = Shares(total=100, each=50)
    assert shares.take("a", 40)
    assert not shares.take("a", 11)
    assert shares.take("a", 10)
    shares.give_back("a", 50)
    assert (shares.held, shares.take("a", 50)) == (0, True)


def test_units_are_returned_when_the_block_fails():
    shares = Shares(total=1, each=1)

    def fail() -> None:
        with shares.taken("a") as is_taken, shares.taken("a") as again:
            raise RuntimeError(is_taken, again)

    with pytest.raises(RuntimeError, match=r"\(True, False\)"):
        fail()
    assert shares.held == 0


def test_shares_are_exact_when_many_threads_take_them():
    shares, most = Shares(total=7, each=3), []

    def take(client: int) -> None:
        for _ in range(500):
            with shares.taken(client % 4) as is_taken:
                if is_taken:
                    most.append(shares.held)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(take, range(8)))
    assert max(most) <= 7
    assert shares.held == 0


def test_turns_of_a_client_are_sequential():
    turns: Turns[str] = Turns(each=2)
    assert [turns.begin("a", thing) for thing in "vwxyz"] == [True, True, False, False, False]
    assert turns.begin("b", "other")
    assert [turns.end("a") for _ in range(5)] == ["x", "y", "z", None, None]
    assert turns.begin("a", "again")
    assert (turns.end("b"), turns.end("a")) == (None, None)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("", ""),
        ("unix:", "unix:"),
    ],
)
def test_shares_are_counted_by_network(address, network):
    assert network_of(address) == network


def test_only_trusted_proxies_name_the_client(settings):
    from ipaddress import ip_network

    environ = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "198.51.100.1, 192.0.2.7, 10.0.0.2"}
    settings.TRUSTED_PROXIES = []
    assert address_of(environ) == "10.0.0.1"
    settings.TRUSTED_PROXIES = [ip_network("10.0.0.0/8")]
    assert address_of(environ) == "192.0.2.7"
    assert address_of(environ | {"HTTP_X_FORWARDED_FOR": "nonsense"}) == "10.0.0.1"
    assert address_of({"REMOTE_ADDR": "192.0.2.9", "HTTP_X_FORWARDED_FOR": "198.51.100.1"}) == "192.0.2.9"


# ── Threads ──────────────────────────────────────────────────────────────────────────────────────────────────────────
class Events:
    """A queue of numbered events. Each test defines the function that handles an event."""

    def __init__(self, maximum: int = 8) -> None:
        self.queue: queue.Queue[int] = queue.Queue()
        self.handled: queue.Queue[tuple[int, str]] = queue.Queue()
        self.waits = 0
        self.actions = {}
        self.threads = Threads(self.next, self.handle, maximum)
        self.threads.start()

    def next(self) -> int:
        self.waits += 1
        number = self.queue.get()
        self.waits -= 1
        return number

    def handle(self, number: int) -> None:
        if number in self.actions:
            self.actions[number]()
        self.handled.put((number, threading.current_thread().name))

    def waiting(self) -> int:
        """Wait until a thread waits for an event. Return the number of waiting threads."""
        end = time.monotonic() + 10
        while not self.waits and time.monotonic() < end:
            time.sleep(0.01)
        return self.waits

    def took(self) -> tuple[int, str]:
        return self.handled.get(timeout=10)


def test_one_thread_handles_all_short_events():
    events = Events()
    for number in range(50):
        events.queue.put(number)
    assert [events.took()[0] for _ in range(50)] == list(range(50))
    assert (events.threads.count, events.waiting()) == (1, 1)


def test_thread_that_steps_aside_is_replaced_and_then_parked():
    events, gate = Events(), threading.Event()

    def slow() -> None:
        events.threads.step_aside()
        events.threads.step_aside()
        gate.wait(10)

    events.actions[1] = slow
    events.queue.put(1)
    events.queue.put(2)
    number, other = events.took()
    assert number == 2
    assert events.threads.count == 2
    gate.set()
    assert events.took() == (1, "web-0")
    assert other == "web-1"
    for number in range(3, 10):  # exactly one of the two leads
        events.queue.put(number)
        events.took()
    assert (events.threads.count, events.waiting()) == (2, 1)


def test_thread_lets_go_before_it_parks_and_not_while_it_leads():
    events, gate, gone = Events(), threading.Event(), queue.Queue()
    events.threads._let_go = lambda: gone.put(threading.current_thread().name)

    def slow() -> None:
        events.threads.step_aside()
        gate.wait(10)

    events.actions[2] = slow
    for number in (1, 2, 3):
        events.queue.put(number)
    assert [events.took()[0] for _ in range(2)] == [1, 3]
    assert gone.empty()
    gate.set()
    assert gone.get(timeout=10) == "web-0"


def sync_folder(folder):
    filesystem._sync_directory(folder)


def sync_log(folder):
    (folder / "log").touch()
    Log(folder / "log").wait(1)


@pytest.mark.parametrize("wait", [sync_folder, sync_log])
def test_leader_steps_aside_before_it_waits_for_the_disk(monkeypatch, tmp_path, wait):
    events, is_synced = Events(), threading.Event()
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda descriptor: is_synced.wait(10))
    events.actions[1] = lambda: wait(tmp_path)
    events.queue.put(1)
    events.queue.put(2)
    assert events.took()[0] == 2
    is_synced.set()
    assert events.took()[0] == 1


def test_leader_steps_aside_before_it_waits_for_its_turn_to_write():
    events, turns = Events(), WriteTurns(None)
    held = turns.take(10)
    events.actions[1] = lambda: turns.take(10).give()
    events.queue.put(1)
    events.queue.put(2)
    assert events.took()[0] == 2
    held.give()
    assert events.took()[0] == 1


def test_thread_that_is_none_of_the_server_waits_as_it_is():
    events = Events()
    assert events.waiting() == 1
    about_to_wait()
    assert events.threads.count == 1


def test_blocked_leader_is_replaced_by_the_watch():
    events, gate = Events(), threading.Event()
    events.actions[1] = lambda: gate.wait(10)
    events.queue.put(1)
    events.queue.put(2)
    assert events.handled.empty()
    for _ in range(500):
        events.threads.watch()
        if not events.handled.empty():
            break
        threading.Event().wait(0.01)
    assert events.took()[0] == 2
    gate.set()
    assert events.took()[0] == 1


def test_first_free_thread_leads_when_all_were_busy():
    events, gate = Events(maximum=2), threading.Event()

    def slow() -> None:
        events.threads.step_aside()
        gate.wait(10)

    events.actions = {1: slow, 2: slow}
    for number in range(1, 5):
        events.queue.put(number)
    threading.Event().wait(0.1)
    assert events.handled.empty()
    gate.set()
    assert sorted(events.took()[0] for _ in range(4)) == [1, 2, 3, 4]
    assert events.threads.count == 2
