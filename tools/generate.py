# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what is generated from the configuration model and the capability matrix; with --check only tells what is stale, and exits 1.

    python tools/generate.py
    python tools/generate.py --check

Needs pydantic and PyYAML. Run it after every change to plugins/module_utils/model/config.py or to a backend's features.py, and commit what it writes.
"""

from __future__ import annotations

import argparse
import difflib
import pathlib
import sys
import tempfile
import typing as t

ROOT = pathlib.Path(__file__).resolve().parent.parent


def targets() -> dict[str, t.Callable[[], str]]:
    """Path below the checkout to what renders it."""
    from ansible_collections.unkey.vmcp.tools.generators.fragment import render_fragment
    from ansible_collections.unkey.vmcp.tools.generators.matrix_page import render_matrix_page
    from ansible_collections.unkey.vmcp.tools.generators.schema import render_schema
    from ansible_collections.unkey.vmcp.tools.generators.shape import render_shape

    return {
        "plugins/module_utils/model/shape.py": render_shape,
        "plugins/doc_fragments/vm_config.py": render_fragment,
        "docs/schema/vm-config.schema.json": render_schema,
        "docs/capabilities.md": render_matrix_page,
    }


def generate(root: pathlib.Path, check: bool) -> int:
    """Exit code: 1 when C(check) and something is stale."""
    stale = 0
    for name, render in targets().items():
        path = root / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        new = render()
        if old == new:
            continue
        stale += 1
        if check:
            sys.stdout.writelines(difflib.unified_diff(old.splitlines(keepends=True), new.splitlines(keepends=True), name, f"{name} (generated)"))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(new, encoding="utf-8")
            print(f"wrote {name}")
    if check and stale:
        print(f"{stale} generated files are stale. Run: python tools/generate.py", file=sys.stderr)
    elif not stale:
        print("all generated files are up to date")
    return 1 if check and stale else 0


def main(arguments: t.Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Writes what is generated from the configuration model and the capability matrix.")
    parser.add_argument("--check", action="store_true", help="write nothing, show what is stale, and exit 1 if anything is")
    parser.add_argument("--root", type=pathlib.Path, default=ROOT, help="the checkout to read and write")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        # The collection's code is imported under the name that Ansible gives it, whether or not the set-up command has been run.
        link = pathlib.Path(directory, "ansible_collections", "unkey", "vmcp")
        link.parent.mkdir(parents=True)
        link.symlink_to(ROOT, target_is_directory=True)
        sys.path.insert(0, directory)
        return generate(options.root, options.check)


if __name__ == "__main__":
    sys.exit(main())
