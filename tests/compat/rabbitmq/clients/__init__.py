"""Suites of RabbitMQ's clients: each a program that knows nothing but an address."""
