# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditions that could keep a task for ever: names that nobody resolves, expressions that backtrack."""

from __future__ import annotations

import pathlib
import re
import socket
import threading
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import DeadlineExceeded
from ansible_collections.unkey.vmcp.plugins.module_utils.host.console_search import Searcher
from ansible_collections.unkey.vmcp.plugins.module_utils.runner import conditions as conditions_file
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.conditions import conditions
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.waits import Wait, wait, wait_all
from ansible_collections.unkey.vmcp.tests.fakes.waited_vm import WaitedVm


@pytest.fixture
def searcher() -> t.Iterator[Searcher]:
    with Searcher(limit_s=0.2) as made:
        yield made


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Resolver]:
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made.ask)
    monkeypatch.setattr(conditions_file, "ASK_AGAIN_S", 0.05)
    yield made
    made.silent.set()


class Resolver:
    """That of the system, but for one name."""

    def __init__(self) -> None:
        self._real = socket.getaddrinfo
        self.silent = threading.Event()
        self.asked = 0
        # What the name stands for; None: it does not answer.
        self.addresses: t.Optional[list[str]] = []

    def ask(self, host: str, port: int, **options: t.Any) -> list[t.Any]:
        if host != "guest.test" or options.get("flags"):
            return self._real(host, port, **options)
        self.asked += 1
        if self.addresses is None:
            self.silent.wait(60)
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [entry for address in self.addresses for entry in self._real(address, port, type=socket.SOCK_STREAM)]


@pytest.fixture
def port() -> t.Iterator[int]:
    """Somebody listens there on 127.0.0.2, and nowhere else."""
    with socket.create_server(("127.0.0.2", 0)) as server:
        yield int(server.getsockname()[1])


def test_a_resolver_that_does_not_answer_keeps_nobody(resolver: Resolver, port: int, searcher: Searcher) -> None:
    resolver.addresses = None
    wanted = conditions([{"tcp": port, "host": "guest.test"}], WaitedVm(), searcher)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=f"'tcp: guest.test:{port}' within"):
        wait(WaitedVm(), wanted, 0.3)
    assert time.monotonic() - began < 30, "less than the resolver takes"
    assert resolver.asked == 1, "it is not asked again before it has answered"


def test_a_name_may_become_known_later_and_stand_for_several_addresses(resolver: Resolver, port: int, searcher: Searcher) -> None:
    wanted = conditions([{"tcp": port, "host": "guest.test"}], WaitedVm(), searcher)

    def becomes_known() -> None:
        while not resolver.asked:
            time.sleep(0.01)
        time.sleep(0.2)
        resolver.addresses = ["127.0.0.1", "127.0.0.2"]

    threading.Thread(target=becomes_known, daemon=True).start()
    (met,) = wait(WaitedVm(), wanted, 60)
    assert met["seconds"] >= 0.1 and resolver.asked > 1


def test_an_address_is_no_name(monkeypatch: pytest.MonkeyPatch, port: int, searcher: Searcher) -> None:
    def nobody(host: str, *_port: object, flags: int = 0, **options: t.Any) -> list[t.Any]:
        assert flags & socket.AI_NUMERICHOST, f"a resolver was asked for {host}"
        return real(host, *_port, flags=flags, **options)

    real: t.Callable[..., list[t.Any]] = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    wait(WaitedVm(), conditions([{"tcp": port, "host": "127.0.0.2"}], WaitedVm(), searcher), 60)


def test_an_expression_that_backtracks_ends_the_wait_of_its_vm_alone(tmp_path: pathlib.Path, searcher: Searcher) -> None:
    bad, good = (WaitedVm(name, str(tmp_path / name), tail=("the last line",)) for name in ("bad", "good"))
    (tmp_path / "bad").write_text("a" * 64)
    (tmp_path / "good").write_text("aab")
    waits = [Wait(guest, conditions([{"running": True}, {"console": "(a+)+b"}], guest, searcher), 60) for guest in (bad, good)]
    began = time.monotonic()
    wait_all(waits, lambda some, waited_s: [one.look(waited_s) for one in some])
    assert time.monotonic() - began < 60
    assert waits[1].failed is None and [met["condition"] for met in waits[1].result()] == ["running", "console: (a+)+b"]
    failed = waits[0].failed
    assert isinstance(failed, DeadlineExceeded)
    assert re.sub(r"within \d+ s", "within 0 s", failed.msg) == (
        "VM bad did not meet 'console: (a+)+b' within 0 s. The console's last lines are in 'console'. The VM is left as it is; the expression was not done "
        "with this output after 0.2 s of computing: write it so that it backtracks less, without a repetition inside a repetition."
    )
    assert (failed.details["unmet"], failed.details["met"], failed.details["console"]) == (["console: (a+)+b"], ["running"], ["the last line"])
