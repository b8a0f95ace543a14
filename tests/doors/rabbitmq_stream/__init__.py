"""Tests of the door of RabbitMQ's stream protocol."""
