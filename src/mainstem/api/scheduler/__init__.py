"""Runs subscribers on a Kafka cluster, where there is no queue engine: a queue for each key, and the state of
a partition in the notes of its commits.

Owns: which event may start when, and what a commit says. `notes`, `partition_ledger` and `key_lanes` are
pure; `cluster_work` runs them in an event loop, over the members of any engine.
"""
