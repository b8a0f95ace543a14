"""Apache Kafka's own authorizer beside mainstem's: the same entries, the same questions."""
