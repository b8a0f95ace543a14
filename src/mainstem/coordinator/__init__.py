"""The coordinator: what is remembered beside the events: topics, groups, positions and subscriptions.

Its state machines run on two internal logs, the state logs (`runtime/`). It uses `mainstem.log` and knows no
door and no socket.
"""
