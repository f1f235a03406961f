# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module vmcp_fleet: a record is replaced only by who has read it."""

from __future__ import annotations

import json
import pathlib
import threading
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.call import Call
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, InvalidArgument
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.fleet import run_fleet

Fleet = t.Callable[..., dict[str, t.Any]]


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Fleet:
    def run(act: bool = True, **options: t.Any) -> dict[str, t.Any]:
        common = {"fleet": "default", "state": "present", "complete": True, "lock_timeout": 5, "state_dir": str(tmp_path / "s"), "run_dir": str(tmp_path / "r")}
        return dict(run_fleet(Call({**common, **options}, act, {}, 1000, print, lambda: None)).result)

    return run


def claim(generation: int, run_id: str, after: tuple[int, str] = (0, ""), **claims: str) -> dict[str, t.Any]:
    return {"claims": claims, "generation": generation, "run_id": run_id, "expected_generation": after[0], "expected_run_id": after[1]}


def test_reads_what_was_never_written(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    found = fleet()
    assert found["record"] == {"generation": 0, "run_id": "", "complete": True, "claims": {}, "written_at": None}
    assert not found["changed"] and not found["drained"] and found["drain"] is None
    assert not list(tmp_path.iterdir())


def test_check_mode_foretells_and_touches_nothing(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    assert fleet(False, **claim(1, "x", web="a"))["changed"] and fleet(False, drained=True)["changed"]
    assert not list(tmp_path.iterdir())


def test_the_second_of_two_at_once_is_refused_and_told_by_whom(fleet: Fleet) -> None:
    assert fleet(**claim(1, "first", web="a"))["changed"]
    assert not fleet(**claim(1, "first", web="a"))["changed"]
    with pytest.raises(FailedPrecondition, match=r"written by another run meanwhile \(generation 1, first, .*\)\. Nothing was claimed here\.") as refused:
        fleet(**claim(1, "second", web="b"))
    assert refused.value.details["record"]["claims"] == {"web": "a"}
    with pytest.raises(FailedPrecondition):
        fleet(**claim(2, "second", (1, "other"), web="b"))
    assert fleet(**claim(2, "second", (1, "first"), web="b"))["record"]["claims"] == {"web": "b"}


def test_of_many_at_once_one_is_let_in(fleet: Fleet) -> None:
    outcomes: list[str] = []

    def one(number: int) -> None:
        try:
            fleet(**claim(1, f"run{number}", web=f"h{number}"))
            outcomes.append(f"run{number}")
        except FailedPrecondition:
            outcomes.append("refused")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [outcome for outcome in outcomes if outcome != "refused"]
    assert len(outcomes) == 8 and fleet()["record"]["run_id"] == winner


def test_drained_and_back(fleet: Fleet) -> None:
    assert fleet(drained=True, drain_reason="memory", moved={"web": "b"})["changed"]
    since = fleet()["drain"]["since"]
    again = fleet(drained=True)
    assert not again["changed"] and again["drain"] == {"reason": "memory", "moved": {"web": "b"}, "since": since}
    assert fleet(drained=True, moved={})["drain"] == {"reason": "memory", "moved": {}, "since": since}
    assert fleet(drained=False) == {**fleet(), "changed": True} and not fleet()["drained"]


def test_removed(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    fleet(**claim(1, "x", web="a"))
    assert fleet(state="absent")["changed"] and not fleet(state="absent")["changed"]
    assert not list((tmp_path / "s" / "fleets").iterdir())


def test_everything_that_is_wrong_is_said_at_once(fleet: Fleet) -> None:
    with pytest.raises(InvalidArgument) as refused:
        fleet(fleet="Ü", claims={"web": ["a"]}, generation=1, expected_generation=1, moved={})
    assert [f"{v.field}: {v.message}" for v in refused.value.violations] == [
        "fleet: must be 1 to 63 characters of a-z, 0-9 and '-', starting with a letter or digit.",
        "run_id: is required with claims.",
        "generation: must be above expected_generation.",
        "claims: must be a dictionary of a VM's name to a host's name.",
        "moved: has no meaning without drained: true.",
    ]


def test_a_newer_schema_is_not_guessed_at(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    fleet(drained=True)
    path = tmp_path / "s" / "drained.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 2}))
    with pytest.raises(FailedPrecondition, match="has schema 2"):
        fleet()
