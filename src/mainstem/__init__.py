"""mainstem: one durable event stream for your services."""

__version__ = "0.1.0"
