"""The doors: protocol servers in front of the event log, one folder each.

`DOORS` lists them. A new door is a folder that declares a `Door`, and one line here.
"""

from __future__ import annotations

from mainstem.doors import amqp091, http, kafka, pubsub, rabbitmq_management, rabbitmq_stream
from mainstem.doors.contract import Door

DOORS: tuple[Door, ...] = (
    kafka.DOOR,
    http.DOOR,
    amqp091.DOOR,
    rabbitmq_stream.DOOR,
    rabbitmq_management.DOOR,
    pubsub.DOOR,
)
