"""What must be remembered beside events: topics, groups, positions, producer ids.

State machines on one internal log, run by `runtime.py`. Imports `mainstem.log`; knows no door and no socket.
"""
