"""Pushes the events of subscriptions to HTTP endpoints, as a client of the engine over its contract."""
