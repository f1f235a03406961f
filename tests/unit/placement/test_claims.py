# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What several records say together."""

from __future__ import annotations

import typing as t

from ansible_collections.unkey.vmcp.plugins.plugin_utils.placement.claims import read_claims


def record(generation: int, run_id: str = "", complete: bool = True, **claims: str) -> dict[str, t.Any]:
    return {"generation": generation, "run_id": run_id, "complete": complete, "claims": claims}


def test_the_highest_generation_counts() -> None:
    found = read_claims({"a": record(3, "x", web="b"), "b": record(2, "w", web="a", old="a"), "c": record(3, "x", web="b")}, "abc", ())
    assert (found.claims, found.generation, found.complete) == ({"web": "b"}, 3, True)


def test_a_host_that_comes_back_with_an_old_record_is_not_believed() -> None:
    assert read_claims({"a": record(1, "v", web="a"), "b": record(4, "x", web="c"), "c": None}, "abc", ()).claims == {"web": "c"}


def test_more_than_half_of_the_keepers_must_be_asked() -> None:
    records = {"a": record(3, "x", web="b"), "b": None, "c": None, "d": record(0)}
    assert not read_claims(records, "abc", ()).complete
    assert not read_claims(records, "abcd", ()).complete
    assert read_claims(records, "abc", ("b",)).needed == 2
    assert read_claims(records, "abc", ("b", "c")).complete
    assert read_claims(records, "a", ()).complete


def test_of_two_runs_at_once_the_one_that_more_keepers_have_is_believed() -> None:
    records = {"a": record(3, "winner", web="a"), "b": record(3, "x-loser", web="b"), "c": record(3, "winner", web="a")}
    assert read_claims(records, "abc", ()).claims == {"web": "a"}


def test_where_they_differ_a_host_out_of_sight_is_believed() -> None:
    records = {"a": record(3, "x", web="c"), "b": record(3, "y", web="b"), "c": None}
    assert read_claims(records, "abc", ()).claims == {"web": "c"}
    assert read_claims(records, "abc", ("c",)).claims == {"web": "b"}


def test_a_record_of_one_host_alone_says_nothing_about_others() -> None:
    found = read_claims({"a": record(5, "x", web="b"), "b": record(5, "x", False, web="b"), "c": record(6, "y", False, web="c")}, "a", ())
    assert found.generation == 6 and found.claims == {"web": "b"}
