"""The committed document of the API, and the names of breaking changes."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from docs.openapi_changes import breaking_changes
from lastmile.api.app import create_app

Document = dict[str, Any]

OLD: Document = {
    "paths": {
        "/things": {
            "post": {
                "parameters": [{"name": "limit", "in": "query", "required": False, "schema": {"type": "integer"}}],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/New"}}}},
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
                    "409": {},
                },
            },
            "get": {"responses": {}},
        }
    },
    "components": {
        "schemas": {
            "New": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "colour": {"enum": ["red", "blue"]},
                    "part": {"oneOf": [{"type": "string"}, {"$ref": "#/components/schemas/New"}]},
                },
            },
            "Thing": {
                "type": "object",
                "required": ["id", "state"],
                "properties": {
                    "id": {"type": "string"},
                    "state": {"enum": ["on", "off"]},
                    "list": {"type": "array", "items": {"type": "integer"}},
                },
            },
        }
    },
}


def post(document: Document) -> Document:
    found: Document = document["paths"]["/things"]["post"]
    return found


def fields(document: Document, schema: str) -> Document:
    found: Document = document["components"]["schemas"][schema]["properties"]
    return found


CHANGES: dict[str, Callable[[Document], Any]] = {
    "GET /things is gone": lambda new: new["paths"]["/things"].pop("get"),
    "POST /things: parameter limit (query) is gone": lambda new: post(new)["parameters"].clear(),
    "POST /things: parameter limit (query) is required now": lambda new: post(new)["parameters"][0].update(
        required=True
    ),
    "POST /things: answer 409 is gone": lambda new: post(new)["responses"].pop("409"),
    "POST /things: body (New): field name is gone": lambda new: fields(new, "New").pop("name"),
    "POST /things: body (New): field size is required now": lambda new: new["components"]["schemas"]["New"][
        "required"
    ].append("size"),
    "POST /things: body (New).colour: the value 'blue' is gone": lambda new: fields(new, "New")["colour"][
        "enum"
    ].remove("blue"),
    "POST /things: body (New).part: string is gone": lambda new: fields(new, "New")["part"]["oneOf"].pop(0),
    "POST /things: body (New).name: the type string is integer now": lambda new: fields(new, "New")["name"].update(
        type="integer"
    ),
    "POST /things: answer 200 (Thing): field id may be missing now": lambda new: new["components"]["schemas"]["Thing"][
        "required"
    ].remove("id"),
    "POST /things: answer 200 (Thing).state: the value 'unknown' is new": lambda new: fields(new, "Thing")["state"][
        "enum"
    ].append("unknown"),
    "POST /things: answer 200 (Thing).list[]: the type integer is string now": lambda new: fields(new, "Thing")["list"][
        "items"
    ].update(type="string"),
}


@pytest.mark.parametrize("named", CHANGES)
def test_breaking_change_is_named(named: str) -> None:
    new = copy.deepcopy(OLD)
    CHANGES[named](new)
    assert breaking_changes(OLD, new) == [named]


def test_additions_break_nothing() -> None:
    new = copy.deepcopy(OLD)
    new["paths"]["/others"] = {"get": {"responses": {}}}
    fields(new, "New")["size"] = {"type": "integer"}
    fields(new, "New")["colour"]["enum"].append("green")
    fields(new, "New")["name"] = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    fields(new, "Thing")["at"] = {"type": "string"}
    new["components"]["responses"] = {"OneThing": post(new)["responses"]["200"]}
    post(new)["responses"]["200"] = {"$ref": "#/components/responses/OneThing"}
    post(new)["parameters"].append({"name": "q", "in": "query", "schema": {"type": "string"}})
    assert breaking_changes(OLD, new) == []


def test_document_of_the_api_breaks_nothing_of_itself() -> None:
    document = json.loads(json.dumps(create_app().openapi()))
    assert breaking_changes(document, document) == []
    assert not {'"ge":', '"le":'} & set(json.dumps(document).split()), "names of pydantic's, not of JSON Schema"
    for methods in document["paths"].values():
        for operation in methods.values():
            assert "default" in operation["responses"]
            assert operation["summary"]
