"""Suites of Pub/Sub's clients: each a program that knows nothing but an address."""
