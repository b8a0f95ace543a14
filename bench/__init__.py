"""How fast, how small: `python -m bench` prints a table and asserts nothing.

Owns: the raw client, the servers it starts and the work it does. Part of no test and of no package: it may
be slow, it may be wrong about a machine, it may never fail a build.
"""
