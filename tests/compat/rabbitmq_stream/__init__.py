"""Clients of RabbitMQ's stream protocol against a fresh server."""
