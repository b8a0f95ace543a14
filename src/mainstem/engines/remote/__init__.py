"""A mainstem server seen through its HTTP door: queues and search, for what Kafka's protocol has no words.

Owns: the requests, their connections and the conversion of replies to the types of the contracts. Refuses:
publishing and reading, which go through Kafka's protocol (`mainstem.engines.kafka`).
"""
