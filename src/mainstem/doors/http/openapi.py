"""The OpenAPI 3.1 document, made of the routes' declarations.

Owns: nothing by hand: a route that is declared is in it, with its parameters, bodies, answers and problems.
Schemas come from the types with which bodies are read and answers written.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import msgspec
from starlette.responses import Response

from mainstem.doors.http import problem
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, json_response

ALWAYS = (
    *("invalid", "bad-request", "forbidden-host", "forbidden-origin", "method", "slow-request", "unfit"),
    *("head-too-large", "failed", "not-reachable", "crowded"),
)
WITH_BODY = ("body-too-large", "media-type", "slow-body")
CHANGING = ("not-allowed",)
REF = "#/components/schemas/{name}"

_PARTS: dict[str, dict[str, Any]] = {
    "partition": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
    "topic": {"type": "string", "pattern": r"^[a-zA-Z0-9._-]{1,249}$"},
    "group": {"type": "string", "minLength": 1},
}


class ProblemJson(msgspec.Struct):
    """What went wrong (RFC 9457), and what to do. Some kinds have further members."""

    type: str
    title: str
    status: int
    detail: str
    fix: str


def path_of(endpoint: Endpoint) -> str:
    """The path as OpenAPI writes it."""
    return re.sub(r":\w+}", "}", endpoint.path)


def kinds_of(endpoint: Endpoint) -> list[str]:
    """All kinds of problems that a route can answer with."""
    kinds = [*ALWAYS, *endpoint.problems]
    if endpoint.bodies:
        kinds += WITH_BODY
    if endpoint.method != "GET":
        kinds += CHANGING
    return list(dict.fromkeys(kinds))


def document(endpoints: Sequence[Endpoint], version: str) -> dict[str, Any]:
    """The document of these routes."""
    types = _types(endpoints)
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    for kind in itertools.chain.from_iterable(_structs(each) for each in types):
        components[kind.__name__] |= getattr(kind, "JSON_SCHEMA", {})
    known = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for each in endpoints:
        paths.setdefault(path_of(each), {})[each.method.lower()] = _operation(each, known, components)
    _link(endpoints, paths)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mainstem",
            "version": version,
            "description": "One durable event stream: publish, read, follow, look after it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _types(endpoints: Iterable[Endpoint]) -> list[Any]:
    found: dict[int, Any] = {id(ProblemJson): ProblemJson}
    for each in endpoints:
        for kind in (each.query, each.reply, *each.bodies.values(), *each.other_replies.values()):
            if kind is not None:
                found[id(kind)] = kind
    return list(found.values())


def _structs(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """The structs that are this type, or of which it is made at the top."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for each in getattr(kind, "__args__", ()):
        yield from _structs(each)


def _operation(endpoint: Endpoint, known: dict[int, Any], components: dict[str, Any]) -> dict[str, Any]:
    text = inspect.getdoc(endpoint.handle) or ""
    first, _, more = text.partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": endpoint.handle.__name__,
        "summary": " ".join(first.split()).rstrip("."),
        "tags": [endpoint.tag],
        "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint, components)],
        "responses": _responses(endpoint, known),
    }
    if more:
        operation["description"] = more
    if endpoint.bodies:
        content = {media: {"schema": known[id(kind)]} for media, kind in endpoint.bodies.items()}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _link(endpoints: Sequence[Endpoint], paths: dict[str, dict[str, Any]]) -> None:
    """Say of each answer that names a topic or a group which operations take that name."""
    for source in endpoints:
        links = {}
        for target in endpoints:
            parts = re.findall(r"{(\w+)}", path_of(target))
            if target is not source and parts and all(part in source.link_sources for part in parts):
                links[target.handle.__name__] = {
                    "operationId": target.handle.__name__,
                    "parameters": {part: f"$response.body#{source.link_sources[part]}" for part in parts},
                }
        if links:
            operation = paths[path_of(source)][source.method.lower()]
            operation["responses"][str(source.status)]["links"] = links


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", path_of(endpoint))
    return [{"name": name, "in": "path", "required": True, "schema": _PARTS[name]} for name in names]


def _query_parameters(endpoint: Endpoint, components: dict[str, Any]) -> list[dict[str, Any]]:
    if endpoint.query is None:
        return []
    schema = components[endpoint.query.__name__]
    found = []
    for name, given in schema["properties"].items():
        kind = {key: value for key, value in given.items() if key != "description"}
        if "anyOf" in kind:  # null: the parameter is left out
            kind["anyOf"] = [each for each in kind["anyOf"] if each != {"type": "null"}]
        if kind.get("default", 0) is None:
            del kind["default"]
        parameter = {"name": name, "in": "query", "required": name in schema["required"], "schema": kind}
        if "description" in given:
            parameter["description"] = given["description"]
        found.append(parameter)
    return found


def _responses(endpoint: Endpoint, known: dict[int, Any]) -> dict[str, Any]:
    schema = {"type": "string"} if endpoint.reply is None else known[id(endpoint.reply)]
    if endpoint.media not in (JSON, "application/x-ndjson"):
        schema = {"type": "string"}
    done: dict[str, Any] = {"description": "Done", "content": {endpoint.media: {"schema": schema}}}
    for media in endpoint.other_media:
        done["content"][media] = {"schema": {"type": "string"}}
    responses: dict[str, Any] = {str(endpoint.status): done}
    for status, kind in endpoint.other_replies.items():
        responses[str(status)] = {"description": "", "content": {JSON: {"schema": known[id(kind)]}}}
    titles: dict[int, list[str]] = {}
    for name in kinds_of(endpoint):
        titles.setdefault(problem.KINDS[name].status, []).append(problem.KINDS[name].title)
    for status, told in sorted(titles.items()):
        content = responses.setdefault(str(status), {"description": "", "content": {}})
        content["description"] = "; ".join(told)
        content["content"][problem.MEDIA] = {"schema": known[id(ProblemJson)]}
    return responses


@cache
def _made(version: str) -> dict[str, Any]:
    from mainstem.doors.http.endpoints import ENDPOINTS as ALL  # which has this file's route in it, too

    return document(ALL, version)


async def show_openapi(call: Call) -> Response:
    """Show this document."""
    return json_response(_made(call.context.version))


ENDPOINTS = (
    Endpoint(method="GET", path="/openapi.json", handle=show_openapi, tag="about", reply=dict[str, Any]),
)
