"""Tests of the model of Google Cloud Pub/Sub."""
