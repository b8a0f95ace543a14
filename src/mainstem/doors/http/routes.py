"""All routes of this door, in the order in which they are tried. The OpenAPI document is made of them."""

from __future__ import annotations

from mainstem.doors.http import (
    cluster,
    deletion,
    groups,
    health,
    metrics,
    openapi,
    publish,
    queries,
    read,
    replay,
    search,
    stats,
    tail,
    topics,
    transfer,
)
from mainstem.doors.http.endpoint import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (
    *cluster.ENDPOINTS,
    *topics.ENDPOINTS,
    *deletion.ENDPOINTS,
    *publish.ENDPOINTS,
    *read.ENDPOINTS,
    *tail.ENDPOINTS,
    *search.ENDPOINTS,
    *transfer.ENDPOINTS,
    *replay.ENDPOINTS,
    *queries.ENDPOINTS,
    *groups.ENDPOINTS,
    *stats.ENDPOINTS,
    *health.ENDPOINTS,
    *metrics.ENDPOINTS,
    *openapi.ENDPOINTS,
)
