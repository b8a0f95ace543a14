"""Which requests of HTTP call which methods of Pub/Sub's API: the rules that Google's protos have for that.

Owns: paths and their variables, and the fields that a query or a body sets (google/api/http.proto). Refuses:
to answer requests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote

from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass

from mainstem.pubsub.messages import message, methods, pool

SYSTEM_PARAMETERS = frozenset(
    {
        *("$.xgafv", "access_token", "alt", "callback", "fields", "key", "oauth_token", "prettyPrint"),
        *("quotaUser", "uploadType", "upload_protocol", "$alt", "$prettyPrint", "$fields", "$key"),
    }
)
"""Parameters that every API of Google has. They change nothing here."""
WHOLE = "*"
"""As the body of a rule: it is the message, but for what the path has."""
_VARIABLE = re.compile(r"\{([a-z_.]+)=([^}]+)\}|([^{]+)")
_MORE_RULES = (
    ("/google.iam.v1.IAMPolicy/GetIamPolicy", "GET", "/v1/{resource=**}:getIamPolicy", ""),
)  # fmt: skip
"""That Pub/Sub's service has beside those in the protos: method, HTTP's method, path, body."""


class RequestInvalid(ValueError):
    """The error for a request that does not fit the message. The text is for the client."""


@dataclass(frozen=True, slots=True)
class HttpRule:
    """A rule."""

    path: str
    """Of the method: `/google.pubsub.v1.Publisher/Publish`."""
    http_method: str
    pattern: re.Pattern[str]
    """Of the path as it is sent, with percent signs."""
    variables: tuple[str, ...]
    """The fields that the groups of the pattern are values of."""
    body: str
    """The field that is the body; WHOLE: all; empty: there is no body."""

    @property
    def request_type(self) -> str:
        """The full name of the message."""
        return str(methods()[self.path].input_type.full_name)

    @property
    def response_type(self) -> str:
        """The full name of the answer."""
        return str(methods()[self.path].output_type.full_name)


@cache
def rules() -> dict[str, list[HttpRule]]:
    """All rules, by HTTP's method."""
    options = GetMessageClass(pool().FindMessageTypeByName("google.protobuf.MethodOptions"))
    extension = pool().FindExtensionByName("google.api.http")
    table: dict[str, list[HttpRule]] = {}
    for path, descriptor in methods().items():
        rule = options.FromString(descriptor.GetOptions().SerializeToString()).Extensions[extension]
        for binding in (rule, *rule.additional_bindings):
            http_method = binding.WhichOneof("pattern")
            if http_method is not None:
                compiled = _rule(path, http_method.upper(), getattr(binding, http_method), binding.body)
                table.setdefault(compiled.http_method, []).append(compiled)
    for more in _MORE_RULES:
        table.setdefault(more[1], []).append(_rule(*more))
    return table


def _rule(path: str, http_method: str, template: str, body: str) -> HttpRule:
    variables, pattern = [], ""
    for match in _VARIABLE.finditer(template):
        if match[1]:
            variables.append(match[1])
            is_in_middle = template[match.end() :].startswith("/")
            pattern += f"({_segments(match[2], '[^/]+' if is_in_middle else '[^/:]+')})"
        else:
            pattern += re.escape(match[3])
    return HttpRule(path, http_method, re.compile(pattern), tuple(variables), body)


def _segments(template: str, last_pattern: str) -> str:
    """The pattern of a variable's segments. The last one of a path has no colon, which begins the verb."""
    *rest, last = template.split("/")
    patterns = ["[^/]+" if segment == "*" else re.escape(segment) for segment in rest]
    patterns.append({"*": last_pattern, "**": ".+"}.get(last) or re.escape(last))
    return "/".join(patterns)


def find_rule(http_method: str, raw_path: str) -> tuple[HttpRule, tuple[str, ...]] | None:
    """The rule of a request, and the values of its variables; None: there is no such method."""
    for rule in rules().get(http_method, ()):
        match = rule.pattern.fullmatch(raw_path)
        if match is not None:
            return rule, tuple(unquote(value) for value in match.groups())
    return None


def request_of(
    rule: HttpRule, values: Iterable[str], query: Iterable[tuple[str, str]], body: object
) -> bytes:
    """The encoded message of a request. `values`: those of the path's variables; `body`: parsed JSON, None if
    there is none. RequestInvalid."""
    request = message(rule.request_type)()
    if rule.body:
        content = body if rule.body == WHOLE else {rule.body: body}
        _parse({} if body is None else content, request)
    elif body not in (None, {}):
        raise RequestInvalid("Invalid JSON payload received: this method has no body.")
    parameters: dict[str, Any] = {}
    for name, text in query:
        if name not in SYSTEM_PARAMETERS:
            _add_parameter(parameters, request.DESCRIPTOR, name, text)
    if parameters:
        from_query = message(rule.request_type)()
        _parse(parameters, from_query)
        request.MergeFrom(from_query)
    for name, value in zip(rule.variables, values, strict=True):
        *outer, last = name.split(".")
        target = request
        for part in outer:
            target = getattr(target, part)
        setattr(target, last, value)
    return bytes(request.SerializeToString())


def _parse(content: object, target: Any) -> None:
    if not isinstance(content, dict):
        raise RequestInvalid("Invalid JSON payload received: an object is expected.")
    mask = "updateMask" if "updateMask" in content else "update_mask"
    if isinstance(content.get(mask), str):  # names are as in the proto or as in JSON
        content = {**content, mask: re.sub("_([a-z0-9])", lambda match: match[1].upper(), content[mask])}
    try:
        json_format.ParseDict(content, target, descriptor_pool=pool())
    except (
        *(json_format.ParseError, ValueError, TypeError, AttributeError),
        *(RecursionError, OverflowError),
    ) as error:
        text = str(error).rstrip(".")[:500]
        raise RequestInvalid(f"Invalid JSON payload received. {text}.") from None


def _add_parameter(parameters: dict[str, Any], descriptor: Any, name: str, text: str) -> None:
    """Add a parameter of the query to JSON of a message: `pageSize=5`, `options.requestedPolicyVersion=3`."""
    *outer, last = name.split(".")
    field = None
    for part in outer:
        field = _field(descriptor, part)
        if field is None or field.message_type is None or field.is_repeated:
            raise _unknown(name)
        parameters = parameters.setdefault(field.name, {})
        if not isinstance(parameters, dict):
            raise RequestInvalid(f"Invalid JSON payload received. {name[:100]} is given twice.")
        descriptor = field.message_type
    field = _field(descriptor, last)
    if field is None:
        raise _unknown(name)
    value: object = text
    if field.type == field.TYPE_BOOL and text in ("true", "false"):
        value = text == "true"
    elif field.enum_type is not None and text.isdecimal() and len(text) < 10:
        value = int(text)
    if field.is_repeated:
        parameters.setdefault(field.name, []).append(value)
    else:
        parameters[field.name] = value


def _field(descriptor: Any, name: str) -> Any:
    """The field of a name in the proto or in JSON; None: there is none."""
    return descriptor.fields_by_name.get(name) or descriptor.fields_by_camelcase_name.get(name)


def _unknown(name: str) -> RequestInvalid:
    return RequestInvalid(
        f'Invalid JSON payload received. Unknown name "{name[:100]}": Cannot bind query parameter. Field'
        " could not be found in request message."
    )


def json_of(full_name: str, encoded: bytes) -> Any:
    """JSON of an encoded message."""
    return json_format.MessageToDict(message(full_name).FromString(encoded), descriptor_pool=pool())
