"""The OpenAPI 3.1 document, made from the declarations of the routes.

Owns: the document. Every declared route is in it with its parameters, bodies, replies and problems. Refuses:
any part that is written by hand: the texts are the docstrings of the routes, and the schemas are those of the
types with which bodies are read and replies are written.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import msgspec
from starlette.responses import Response

from mainstem.doors.http.endpoint import JSON, NDJSON, Call, Endpoint, json_response
from mainstem.doors.http.rights import LOGIN
from mainstem.doors.http.throttling import quotas_of
from mainstem.http_api.field_types import LONG_MAX
from mainstem.http_api.problems import KINDS, MEDIA_TYPE, ProblemJson

PROBLEMS_OF_ALL = (
    *("invalid", "bad-request", "forbidden-host", "forbidden-origin", "method", "slow-request", "unfit"),
    *("head-too-large", "failed", "not-reachable", "crowded"),
)
PROBLEMS_OF_LOGINS = ("unauthorized", "forbidden", "too-many-attempts", "no-keys")
PROBLEMS_OF_BODIES = ("body-too-large", "media-type", "slow-body")
PROBLEMS_OF_CHANGES = ("not-allowed",)
SECURITY_SCHEMES: dict[str, dict[str, str]] = {
    "password": {"type": "http", "scheme": "basic", "description": "User and password."},
    "token": {"type": "http", "scheme": "bearer", "description": "A signed token (JWT)."},
}
"""For listeners that authenticate; the others ask for nothing."""
REF = "#/components/schemas/{name}"

_PATH_SCHEMAS: dict[str, dict[str, Any]] = {
    "partition": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
    "token": {"type": "string", "minLength": 1, "maxLength": 60},
    "offset": {"type": "integer", "minimum": 0, "maximum": LONG_MAX},
    "topic": {"type": "string", "pattern": r"^[a-zA-Z0-9._-]{1,249}$"},
    "group": {"type": "string", "minLength": 1},
    "user": {"type": "string", "minLength": 1},
    "subscription": {"type": "string", "pattern": r"^[a-zA-Z0-9._-]{1,249}$"},
    "rule": {"type": "string", "pattern": r"^[^/:]{1,255}$"},
    "snapshot": {"type": "string", "pattern": r"^[a-zA-Z0-9._-]{1,249}$"},
}


def path_of(endpoint: Endpoint) -> str:
    """The path in OpenAPI's notation."""
    return re.sub(r":\w+}", "}", endpoint.path)


def kinds_of(endpoint: Endpoint) -> list[str]:
    """All kinds of problems with which a route may refuse a request."""
    kinds = [*PROBLEMS_OF_ALL, *endpoint.problems]
    if endpoint.rights.login:
        kinds += PROBLEMS_OF_LOGINS
    if quotas_of(endpoint.rights):
        kinds.append("quota-exceeded")
    if endpoint.bodies:
        kinds += PROBLEMS_OF_BODIES
    if endpoint.method != "GET":
        kinds += PROBLEMS_OF_CHANGES
    return list(dict.fromkeys(kinds))


def document(endpoints: Sequence[Endpoint], version: str) -> dict[str, Any]:
    """The document of these routes; `version` is that of mainstem."""
    types = _types(endpoints)
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    for struct in itertools.chain.from_iterable(_structs(json_type) for json_type in types):
        components[struct.__name__] |= getattr(struct, "JSON_SCHEMA", {})
    schema_by_type = {id(json_type): schema for json_type, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, schema_by_type, components)
        paths.setdefault(path_of(endpoint), {})[endpoint.method.lower()] = operation
    _add_links(endpoints, paths)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mainstem",
            "version": version,
            "description": "A durable event log: publish, read, follow, search and administer.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": SECURITY_SCHEMES},
        "security": [{name: []} for name in SECURITY_SCHEMES],
    }


def _types(endpoints: Iterable[Endpoint]) -> list[Any]:
    """Every type that a route declares, once."""
    types: dict[int, Any] = {id(ProblemJson): ProblemJson}
    for endpoint in endpoints:
        declared = (
            *(endpoint.query, endpoint.reply),
            *endpoint.bodies.values(),
            *endpoint.other_replies.values(),
        )
        types |= {id(json_type): json_type for json_type in declared if json_type is not None}
    return list(types.values())


def _structs(json_type: Any) -> Iterator[type[msgspec.Struct]]:
    """The structs of a declared type: itself, or the members of a union or the elements of a list."""
    if isinstance(json_type, type) and issubclass(json_type, msgspec.Struct):
        yield json_type
    for argument in getattr(json_type, "__args__", ()):
        yield from _structs(argument)


def _operation(
    endpoint: Endpoint, schema_by_type: dict[int, Any], components: dict[str, Any]
) -> dict[str, Any]:
    text = inspect.getdoc(endpoint.handle) or ""
    summary, _, description = text.partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": endpoint.handle.__name__,
        "summary": " ".join(summary.split()).rstrip("."),
        "tags": [endpoint.tag],
        "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint, components)],
        "responses": _responses(endpoint, schema_by_type),
    }
    if not endpoint.rights.login:
        operation["security"] = [{}]
    needs = [(right.operation, right.resource_type) for right in endpoint.rights.of_path]
    operation["x-rights"] = [
        {"operation": needed.name, "resource": resource_type.name.lower()}
        for needed, resource_type in (*needs, *endpoint.rights.of_any)
    ]
    rights = f"Rights: {endpoint.rights.text}." if endpoint.rights.text else ""
    if description or rights:
        operation["description"] = "\n\n".join(filter(None, (description, rights)))
    if endpoint.bodies:
        content = {
            media: {"schema": schema_by_type[id(json_type)]} for media, json_type in endpoint.bodies.items()
        }
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _add_links(endpoints: Sequence[Endpoint], paths: dict[str, dict[str, Any]]) -> None:
    """Add to each reply that holds the name of a topic or a group the operations that accept that name."""
    for source in endpoints:
        links = {}
        for target in endpoints:
            names = re.findall(r"{(\w+)}", path_of(target))
            if target is not source and names and all(name in source.link_sources for name in names):
                links[target.handle.__name__] = {
                    "operationId": target.handle.__name__,
                    "parameters": {name: f"$response.body#{source.link_sources[name]}" for name in names},
                }
        if links:
            operation = paths[path_of(source)][source.method.lower()]
            operation["responses"][str(source.status)]["links"] = links


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", path_of(endpoint))
    return [{"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS[name]} for name in names]


def _query_parameters(endpoint: Endpoint, components: dict[str, Any]) -> list[dict[str, Any]]:
    if endpoint.query is None:
        return []
    struct_schema = components[endpoint.query.__name__]
    parameters = []
    for name, property_schema in struct_schema["properties"].items():
        schema = {key: value for key, value in property_schema.items() if key != "description"}
        if "anyOf" in schema:  # a parameter is never null: it is omitted
            schema["anyOf"] = [option for option in schema["anyOf"] if option != {"type": "null"}]
        if schema.get("default", 0) is None:
            del schema["default"]
        required = name in struct_schema["required"]
        parameter = {"name": name, "in": "query", "required": required, "schema": schema}
        if "description" in property_schema:
            parameter["description"] = property_schema["description"]
        parameters.append(parameter)
    return parameters


def _responses(endpoint: Endpoint, schema_by_type: dict[int, Any]) -> dict[str, Any]:
    schema = {"type": "string"} if endpoint.reply is None else schema_by_type[id(endpoint.reply)]
    if endpoint.media not in (JSON, NDJSON):
        schema = {"type": "string"}
    success: dict[str, Any] = {"description": "Success", "content": {endpoint.media: {"schema": schema}}}
    for media in endpoint.other_media:
        success["content"][media] = {"schema": {"type": "string"}}
    responses: dict[str, Any] = {str(endpoint.status): success}
    for status, json_type in endpoint.other_replies.items():
        content = {JSON: {"schema": schema_by_type[id(json_type)]}}
        responses[str(status)] = {"description": "", "content": content}
    titles: dict[int, list[str]] = {}
    for kind in kinds_of(endpoint):
        titles.setdefault(KINDS[kind].status, []).append(KINDS[kind].title)
    for status, titles_of_status in sorted(titles.items()):
        response = responses.setdefault(str(status), {"description": "", "content": {}})
        response["description"] = "; ".join(titles_of_status)
        response["content"][MEDIA_TYPE] = {"schema": schema_by_type[id(ProblemJson)]}
    return responses


def openapi_endpoint(endpoints: Callable[[], Sequence[Endpoint]]) -> Endpoint:
    """The route of the document. `endpoints` returns all routes, this one among them."""

    @cache
    def document_of(version: str) -> dict[str, Any]:
        return document(endpoints(), version)

    async def show_openapi(call: Call) -> Response:
        """Show this document."""
        return json_response(document_of(call.context.version))

    return Endpoint(
        method="GET",
        path="/openapi.json",
        handle=show_openapi,
        rights=LOGIN,
        tag="about",
        reply=dict[str, Any],
    )
