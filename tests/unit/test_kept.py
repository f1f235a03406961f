# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests themselves keep is made by one of those that want it at the same time."""

from __future__ import annotations

import pathlib
import threading
import time

from ansible_collections.unkey.vmcp.tests.kept import alone


def test_one_makes_it_and_the_others_find_it(tmp_path: pathlib.Path) -> None:
    made, thing = [], tmp_path / "thing"

    def wants_it(number: int) -> None:
        with alone(tmp_path):
            if not thing.exists():
                time.sleep(0.05)
                thing.mkdir()
                made.append(number)

    threads = [threading.Thread(target=wants_it, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
