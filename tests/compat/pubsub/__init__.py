"""Clients of Google Cloud Pub/Sub, and Google's emulator and pstest as references."""
