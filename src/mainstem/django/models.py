"""The tables of the outbox and the inbox.

Owns: the schema. Refuses: statements; `outbox.py`, `inbox.py` and `store.py` have them. A change here needs a
migration.
"""

from __future__ import annotations

from django.db import models

from mainstem.outbox.contract import NAME_CHARS_MAX, REFUSED_CHARS_MAX


class OutboxEvent(models.Model):
    """An event that is to be published."""

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(max_length=100)
    topic = models.CharField(max_length=NAME_CHARS_MAX)
    key = models.BinaryField(null=True)
    value = models.BinaryField(null=True)
    headers = models.BinaryField(null=True)
    time_ms = models.BigIntegerField()
    refused = models.CharField(max_length=REFUSED_CHARS_MAX, null=True)

    class Meta:
        db_table = "mainstem_outbox"
        indexes = (models.Index(fields=("source", "id"), name="mainstem_outbox_source_id"),)


class OutboxMark(models.Model):
    """How far a topic is known to hold no event of an outbox whose row is still in the table."""

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(max_length=100)
    topic_digest = models.CharField(max_length=64)
    """SHA-256 of the topic's name, in which case counts for every database."""
    topic = models.CharField(max_length=NAME_CHARS_MAX)
    topic_id = models.CharField(max_length=64)
    offsets = models.TextField()
    is_open = models.BooleanField()

    class Meta:
        db_table = "mainstem_outbox_marks"
        constraints = (
            models.UniqueConstraint(fields=("source", "topic_digest"), name="mainstem_outbox_marks_topic"),
        )


class InboxEvent(models.Model):
    """An event that a group has handled."""

    digest = models.CharField(max_length=64, primary_key=True)
    """SHA-256 of the group's name, a line feed and the event's id."""
    group_name = models.CharField(max_length=NAME_CHARS_MAX)
    event_id = models.TextField()
    time_ms = models.BigIntegerField(db_index=True)

    class Meta:
        db_table = "mainstem_inbox"
