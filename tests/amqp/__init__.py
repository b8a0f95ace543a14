"""Tests of the model of AMQP messages."""
