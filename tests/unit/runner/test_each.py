# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same for each of many VMs, in the order in which they were named."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.runner.each import ASKED_AHEAD, ahead, each


def test_answers_come_in_order_and_are_waited_for_after_others_were_asked() -> None:
    told: list[str] = []

    def ask(item: int) -> t.Callable[[], int]:
        told.append(f"ask {item}")

        def answer() -> int:
            told.append(f"wait {item}")
            return item * 2

        return answer

    assert ahead([1, 2, 3], ask) == [2, 4, 6]
    assert told == ["ask 1", "ask 2", "ask 3", "wait 1", "wait 2", "wait 3"]


def test_no_more_than_a_bounded_number_is_on_its_way() -> None:
    under_way, most = 0, 0

    def ask(item: int) -> t.Callable[[], int]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)

        def answer() -> int:
            nonlocal under_way
            under_way -= 1
            return item

        return answer

    items = list(range(3 * ASKED_AHEAD + 1))
    assert ahead(items, ask) == items
    assert (most, under_way) == (ASKED_AHEAD, 0)


@pytest.mark.parametrize("at_a_time", [1, 4])
def test_each_keeps_the_order(at_a_time: int) -> None:
    assert each([3, 1, 2], lambda item: item + 1, at_a_time) == [4, 2, 3]
