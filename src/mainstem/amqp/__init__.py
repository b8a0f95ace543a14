"""AMQP 0-9-1's model of messages, beside any wire: what doors that speak of exchanges and queues share."""
