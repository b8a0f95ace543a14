"""The clients under which the servers are measured: one module a protocol, each a program of its own.

    python -m bench.clients.kafka produce|fetch|sync|... HOST:PORT TOPIC JSON-SETTINGS

They send bytes that were prepared before the clock starts, and decode of the replies only what shows
progress, so that the server is what is measured. Each prints one line of JSON: what it did, the seconds, and
its own CPU seconds.
"""
