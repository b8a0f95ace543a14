"""Masking rules: list, put and delete them, and see what one would mask.

Owns: their JSON. Refuses: rules that cannot be read; the rest is refused where rules are kept.
"""

from __future__ import annotations

from starlette.responses import Response

from mainstem.access_contract import Operation
from mainstem.contract import Event
from mainstem.doors.http import audit
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, json_response
from mainstem.doors.http.page_reader import read_page
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.rights import on_cluster
from mainstem.http_api.event_encoding import event_to_json
from mainstem.http_api.masking import (
    DeletedMaskRuleJson,
    MaskedEventJson,
    MaskPreviewJson,
    MaskPreviewRequestJson,
    MaskRuleJson,
    MaskRulesJson,
    rule_json,
)
from mainstem.http_api.topics import DryRunQuery
from mainstem.masking.rules import MaskRule

RULES_PATH = "/api/v1/masking-rules"
PREVIEW_BYTES = 1 << 20
"""Of the events of a partition that a preview reads."""
PREVIEW_PARTITIONS_MAX = 100


async def list_masking_rules(call: Call) -> Response:
    """List the masking rules."""
    return json_response(MaskRulesJson([rule_json(rule) for rule in call.context.masks.rules()]))


async def put_masking_rule(call: Call) -> Response:
    """Add a masking rule, or replace the one of its name. What is shown from then on is masked by it."""
    body, dry_run = await call.json_body(MaskRuleJson), call.query.dry_run
    what = {"rule": body.rule, "topic": body.topic, "path": body.path}
    with audit.action(call, "put-masking-rule", dry_run=dry_run, **what):
        rule = _parsed(body)
        await call.context.masks.put_rule(rule, validate_only=dry_run)
    return json_response(rule_json(rule))


async def delete_masking_rule(call: Call) -> Response:
    """Delete a masking rule. What it masked is shown from then on."""
    name, dry_run = call.path_parameter("rule"), call.query.dry_run
    with audit.action(call, "delete-masking-rule", dry_run=dry_run, rule=name):
        masks = call.context.masks
        is_present = any(rule.name == name for rule in masks.rules())
        if not (is_present if dry_run else await masks.delete_rule(name)):
            raise Problem("unknown-masking-rule", f"there is no masking rule {name}")
    return json_response(DeletedMaskRuleJson(name, dry_run))


async def preview_masking_rule(call: Call) -> Response:
    """Show the newest events of a topic with and without a rule, which need not exist. Nothing is changed."""
    body = await call.json_body(MaskPreviewRequestJson)
    mask = call.context.masks.preview(_parsed(body.rule))
    rows = []
    for event in await _newest_events(call, body.topic, body.events):
        masked = mask.masked(event)
        rows.append(MaskedEventJson(event_to_json(event), event_to_json(masked), masked != event))
    return json_response(MaskPreviewJson(rows))


def _parsed(body: MaskRuleJson) -> MaskRule:
    try:
        return body.parsed()
    except ValueError as error:
        raise Problem("unfit", f"masking rule {body.rule}: {error}") from None


async def _newest_events(call: Call, topic: str, count: int) -> list[Event]:
    events: list[Event] = []
    for partition in range(min(PREVIEW_PARTITIONS_MAX, await call.engine.partitions(topic))):
        bounds = await call.engine.bounds(topic, partition)
        start = max(bounds.begin, bounds.end - count)
        events += await read_page(call, topic, partition, start, limit=count, max_bytes=PREVIEW_BYTES)
    events.sort(key=lambda event: (event.timestamp_ms, event.offset), reverse=True)
    return events[:count]


ENDPOINTS = (
    Endpoint(
        method="GET",
        path=RULES_PATH,
        handle=list_masking_rules,
        rights=on_cluster(Operation.DESCRIBE),
        tag="access",
        reply=MaskRulesJson,
        link_sources={"rule": "/rules/0/rule"},
    ),
    Endpoint(
        method="POST",
        path=RULES_PATH,
        handle=put_masking_rule,
        rights=on_cluster(Operation.ALTER),
        tag="access",
        query=DryRunQuery,
        bodies={JSON: MaskRuleJson},
        reply=MaskRuleJson,
        problems=("unfit",),
        link_sources={"rule": "/rule"},
    ),
    Endpoint(
        method="POST",
        path=RULES_PATH + ":preview",
        handle=preview_masking_rule,
        rights=on_cluster(Operation.ALTER, also="READ on the topic"),
        tag="access",
        bodies={JSON: MaskPreviewRequestJson},
        reply=MaskPreviewJson,
        problems=("unfit", "unknown-topic"),
    ),
    Endpoint(
        method="DELETE",
        path=RULES_PATH + "/{rule:word}",
        handle=delete_masking_rule,
        rights=on_cluster(Operation.ALTER),
        tag="access",
        query=DryRunQuery,
        reply=DeletedMaskRuleJson,
        problems=("unknown-masking-rule",),
    ),
)
