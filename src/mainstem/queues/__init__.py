"""Acknowledgement of single events: what a subscription knows about a sequence of positions, as pure state.

Owns: the view of a sequence (`view.py`), its pages, leases, waiting positions and their encodings. Refuses:
clocks, disks, promises and doors; times are arguments, in milliseconds since 1970, and records are written by
its user. Imports the standard library alone, and does not know the log.
"""
