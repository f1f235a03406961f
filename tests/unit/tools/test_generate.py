# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
import yaml

from ansible_collections.unkey.vmcp.plugins.doc_fragments.vm_config import ModuleDocFragment
from ansible_collections.unkey.vmcp.plugins.module_utils.argument_specs import VM
from ansible_collections.unkey.vmcp.plugins.module_utils.model.shape import SHAPE
from ansible_collections.unkey.vmcp.tools.generate import generate, main, targets

ROOT = pathlib.Path(__file__).resolve().parents[3]


def test_what_is_generated_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out


def test_check_tells_what_is_stale_and_writes_nothing(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "docs" / "capabilities.md"
    page.parent.mkdir()
    page.write_text("old\n")
    assert generate(tmp_path, check=True) == 1
    output = capsys.readouterr()
    assert "-old\n" in output.out and "+# What each backend can do\n" in output.out
    assert "4 generated files are stale. Run: python tools/generate.py" in output.err
    assert page.read_text() == "old\n" and list(tmp_path.iterdir()) == [page.parent]


def test_what_was_written_is_up_to_date(tmp_path: pathlib.Path) -> None:
    assert generate(tmp_path, check=False) == 0
    assert generate(tmp_path, check=True) == 0
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")) == sorted(targets())


def _documented(options: t.Mapping[str, t.Any], shape: t.Mapping[str, t.Any], path: str) -> None:
    assert list(options) == list(shape), path
    for name, node in shape.items():
        option = options[name]
        assert all(sentence.endswith(".") for sentence in option["description"]), f"{path}.{name}"
        assert ("suboptions" in option) == ("fields" in node), f"{path}.{name}"
        if "fields" in node:
            assert (option["type"], option.get("elements")) == (("list", "dict") if node["kind"] == "list" else ("dict", None))
            _documented(option["suboptions"], node["fields"], f"{path}.{name}")
        elif node.get("required"):
            assert option["required"] is True
        else:
            assert option.get("default") == (node["default"] if node["default"] not in ([], {}) else None), f"{path}.{name}"


def test_every_option_of_the_tree_is_documented() -> None:
    options = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    _documented(options["config"]["suboptions"], SHAPE, "config")


def test_the_documented_types_are_those_of_the_argument_spec() -> None:
    for name, option in yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"].items():
        assert {"type": option["type"], "elements": option.get("elements")} == {"type": VM[name]["type"], "elements": VM[name].get("elements")}, name


def test_null_as_a_word_stays_a_word() -> None:
    options = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    assert options["config"]["suboptions"]["console"]["suboptions"]["output"]["choices"] == ["file", "tty", "null", "socket"]


def test_the_schema_has_no_markup_and_knows_no_other_keys() -> None:
    text = (ROOT / "docs" / "schema" / "vm-config.schema.json").read_text()
    assert not any(mark in text for mark in ("O(", "C(", "V(", "M("))
    definitions = json.loads(text)["$defs"]
    assert all(definition["additionalProperties"] is False for definition in definitions.values())


def test_the_schema_accepts_the_examples() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="the library jsonschema is not installed")
    validator = jsonschema.Draft202012Validator(json.loads((ROOT / "docs" / "schema" / "vm-config.schema.json").read_text()))
    for path in sorted((ROOT / "tests" / "fixtures" / "example-configs").glob("*.json")):
        document = json.loads(path.read_text())
        assert validator.is_valid(document) and validator.is_valid(document["config"]), path
    assert validator.is_valid({"memory": {"size_bytes": "16G", "zones": None}, "console": None})
    assert not validator.is_valid({"memory": {"size": 1}})
