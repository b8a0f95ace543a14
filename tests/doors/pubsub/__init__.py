"""Tests of the Pub/Sub door."""
