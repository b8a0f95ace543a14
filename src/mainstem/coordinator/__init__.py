"""The coordinator: what is remembered beside the events: topics, groups, positions and producer ids.

Its state machines run on one internal log, the state log (`runtime/`). It uses `mainstem.log` and knows no
door and no socket.
"""
