"""The clients under which the servers are measured: one module a protocol, each a program of its own.

    python -m bench.clients.kafka produce|fetch|sync|... HOST:PORT TOPIC JSON-SETTINGS

They send bytes that were made before the clock starts and look into nothing that comes back but what tells
them how far they are, so that the server is what is measured. Each prints one line of JSON: what it did, the
seconds, and its own CPU seconds.
"""
