"""The outbox: events that a transaction of a database publishes if it commits, each in the log exactly once.

Owns: the relay from a table to the log, whichever library the table is reached by. Refuses: database
libraries; `mainstem.sqlalchemy` and `mainstem.django` have the tables and implement `contract.OutboxStore`.
"""
