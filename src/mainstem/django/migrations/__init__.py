"""Migrations of the tables of the outbox and the inbox."""
