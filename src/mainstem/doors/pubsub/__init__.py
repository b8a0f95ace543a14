"""The Pub/Sub door: the protocol of Google Cloud Pub/Sub, gRPC and REST on one port, for its clients.

Owns: HTTP/2 and gRPC (`calls.py` is what its services see of them). Refuses: topics and subscriptions as
Pub/Sub sees them, which are in `mainstem.pubsub`.
"""
