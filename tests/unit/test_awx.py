# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What unkey.vmcp.awx makes, against what awx.awx and AWX accept: option names and types as their documentation has them."""

from __future__ import annotations

import pathlib
import re
import typing as t

import jsonschema
import pytest
import yaml

from ansible_collections.unkey.vmcp.plugins.plugin_utils.variables import VARIABLES, violations

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT, FLAG, WHOLE = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}


def closed(needed: t.Sequence[str], **properties: t.Any) -> dict[str, t.Any]:
    return {"type": "object", "additionalProperties": False, "required": list(needed), "properties": properties}


def listed(items: t.Any) -> dict[str, t.Any]:
    return {"type": "array", "items": items}


QUESTION = closed(
    ["question_name", "variable", "type", "required"],
    question_name={"type": "string", "minLength": 1},
    question_description=TEXT,
    variable={"type": "string", "pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"},
    type={"enum": ["text", "textarea", "password", "integer", "float", "multiplechoice", "multiselect"]},
    required=FLAG,
    default={"type": ["string", "integer", "number"]},
    choices=listed(TEXT),
    min=WHOLE,
    max=WHOLE,
)
SURVEY = closed(["name", "description", "spec"], name=TEXT, description=TEXT, spec={**listed(QUESTION), "minItems": 1})
NEXT = listed(closed(["identifier"], identifier=TEXT))
NODE = closed(
    ["identifier", "unified_job_template", "related"],
    identifier=TEXT,
    all_parents_must_converge=FLAG,
    unified_job_template=closed(["name", "type"], name=TEXT, type={"enum": ["job_template", "project", "inventory_source", "workflow_job_template"]}),
    related=closed([], success_nodes=NEXT, failure_nodes=NEXT, always_nodes=NEXT, credentials=listed(TEXT)),
)
ASKS = {f"ask_{what}_on_launch": FLAG for what in ("job_type", "tags", "variables")}
FIELD = closed(["id", "label"], id={"pattern": "^[a-zA-Z_]+[a-zA-Z0-9_]*$"}, label=TEXT, type={"enum": ["string", "boolean"]}, help_text=TEXT, secret=FLAG)
SCHEMA = closed(
    [f"vmcp_awx__{part}" for part in ("execution_environment", "project", "credential_types", "job_templates", "workflows")],
    vmcp_awx__execution_environment=closed(["name", "image"], name=TEXT, description=TEXT, image=TEXT),
    vmcp_awx__project=closed(
        ["name", "scm_type", "scm_url"],
        name=TEXT,
        description=TEXT,
        scm_type={"enum": ["manual", "git", "svn", "insights", "archive"]},
        scm_url=TEXT,
        scm_branch=TEXT,
        scm_update_on_launch=FLAG,
        default_environment=TEXT,
    ),
    vmcp_awx__credential_types=listed(
        closed(
            ["name", "kind", "inputs", "injectors"],
            name=TEXT,
            description=TEXT,
            kind={"enum": ["cloud", "net"]},
            inputs=closed(["fields"], fields=listed(FIELD), required=listed(TEXT)),
            injectors=closed([], extra_vars={"type": "object"}, env={"type": "object"}, file={"type": "object"}),
        )
    ),
    vmcp_awx__job_templates=listed(closed(["name", "playbook"], name=TEXT, description=TEXT, playbook=TEXT, survey_spec=SURVEY, **ASKS)),
    vmcp_awx__workflows=listed(closed(["name", "workflow_nodes"], name=TEXT, description=TEXT, survey_spec=SURVEY, workflow_nodes=listed(NODE))),
    vmcp_awx__hosts_question=QUESTION,
    vmcp_awx__drained_question=QUESTION,
)


class Loader(yaml.SafeLoader):
    """Knows the tag for text that Ansible is not to template."""


Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))
CODE = yaml.load((ROOT / "playbooks" / "vars" / "awx.yml").read_text(encoding="utf-8"), Loader)
TEMPLATES = {template["name"]: template for template in CODE["vmcp_awx__job_templates"]}
SURVEYS = {thing["name"]: thing["survey_spec"]["spec"] for thing in [*TEMPLATES.values(), *CODE["vmcp_awx__workflows"]] if "survey_spec" in thing}


def test_the_schema_holds() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(CODE, SCHEMA)


def test_the_schema_refuses_what_awx_would() -> None:
    for wrong in ({"type": "choice"}, {"variable": "a b"}, {"choice": []}):
        question = {"question_name": "Q", "variable": "v", "type": "text", "required": False} | wrong
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(question, QUESTION)


@pytest.mark.parametrize("name", SURVEYS)
def test_a_survey_asks_for_variables_that_the_playbooks_know_and_its_defaults_are_accepted(name: str) -> None:
    questions = SURVEYS[name]
    variables = [question["variable"] for question in questions]
    assert len(set(variables)) == len(variables) and set(variables) <= set(VARIABLES)
    for question in questions:
        chosen = question["type"] in ("multiplechoice", "multiselect")
        assert chosen == ("choices" in question)
        if chosen:
            assert question.get("default", "") in [*question["choices"], *([] if question["required"] else [""])]
            assert all(not VARIABLES[question["variable"]].check(choice) for choice in question["choices"])
        if question["type"] == "integer":
            assert question["min"] <= question["default"] <= question["max"]
    # As AWX hands them on when somebody leaves everything as it is.
    assert not violations({question["variable"]: question.get("default", "") for question in questions}, "none")


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_runs_a_playbook_that_there_is(name: str) -> None:
    assert (ROOT / TEMPLATES[name]["playbook"]).is_file()


def test_every_playbook_of_fleets_has_a_template() -> None:
    page = (ROOT / "docs" / "fleets.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| .*`unkey\.vmcp\.([a-z_]+)`", page, re.MULTILINE)) | {"drain"}
    assert described <= {pathlib.Path(template["playbook"]).stem for template in TEMPLATES.values()}


def test_the_workflow_goes_where_it_says() -> None:
    (workflow,) = CODE["vmcp_awx__workflows"]
    nodes = {node["identifier"]: node for node in workflow["workflow_nodes"]}
    ways = {
        name: {kind: [n["identifier"] for n in node["related"][f"{kind}_nodes"]] for kind in ("success", "failure", "always")} for name, node in nodes.items()
    }
    assert ways["provision"] == {"success": ["verify"], "failure": ["rollback"], "always": []}
    assert ways["verify"] == {"success": ["publish"], "failure": ["rollback"], "always": []}
    assert {target for way in ways.values() for targets in way.values() for target in targets} <= set(nodes)
    assert {node["unified_job_template"]["name"] for node in nodes.values()} <= set(TEMPLATES)
    # Two ways lead to it, and one is enough.
    assert nodes["rollback"]["all_parents_must_converge"] is False


def test_a_credential_injects_what_it_asks_for_into_variables_of_ours() -> None:
    for kind in CODE["vmcp_awx__credential_types"]:
        fields = {field["id"] for field in kind["inputs"]["fields"]}
        injected = kind["injectors"]["extra_vars"]
        assert set(injected) <= set(VARIABLES) and set(kind["inputs"]["required"]) <= fields
        assert {match for text in injected.values() for match in re.findall(r"\{\{ (\w+) \}\}", text)} == fields


def test_execution_environments_get_what_the_collection_needs() -> None:
    ours = yaml.safe_load((ROOT / "meta" / "execution-environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert all((ROOT / file).is_file() for file in ours.values()) and ours["python"] == "requirements.txt"
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    built = yaml.safe_load((ROOT / "execution-environment.yml").read_text(encoding="utf-8"))
    archive = f"{galaxy['namespace']}-{galaxy['name']}-{galaxy['version']}.tar.gz"
    assert [entry["source"] for entry in built["dependencies"]["galaxy"]["collections"]] == [archive]
    assert [entry["src"] for entry in built["additional_build_files"]] == [archive]
    # They must be in what is built.
    assert not {"bindep.txt", "requirements.txt", "meta", "playbooks"} & set(galaxy["build_ignore"])
