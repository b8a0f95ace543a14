"""The list of all routes, in the order in which they are tried. The OpenAPI document is made from it."""

from __future__ import annotations

from mainstem.doors.http.endpoint import Endpoint
from mainstem.doors.http.openapi import openapi_endpoint
from mainstem.doors.http.routes import (
    chosen_events,
    cluster,
    dead_letters,
    deletion,
    deliveries,
    export,
    groups,
    health,
    metrics,
    publish,
    query_help,
    read,
    replay,
    search,
    snapshots,
    stats,
    subscriptions,
    tail,
    topics,
)

ENDPOINTS: tuple[Endpoint, ...] = (
    *cluster.ENDPOINTS,
    *topics.ENDPOINTS,
    *deletion.ENDPOINTS,
    *publish.ENDPOINTS,
    *read.ENDPOINTS,
    *tail.ENDPOINTS,
    *search.ENDPOINTS,
    *export.ENDPOINTS,
    *replay.ENDPOINTS,
    *query_help.ENDPOINTS,
    *groups.ENDPOINTS,
    *deliveries.ENDPOINTS,
    *chosen_events.ENDPOINTS,
    *snapshots.ENDPOINTS,
    *dead_letters.ENDPOINTS,
    *subscriptions.ENDPOINTS,
    *stats.ENDPOINTS,
    *health.ENDPOINTS,
    *metrics.ENDPOINTS,
    openapi_endpoint(lambda: ENDPOINTS),
)
