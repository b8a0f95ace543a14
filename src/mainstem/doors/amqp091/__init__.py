"""AMQP 0-9-1, as RabbitMQ speaks it: the codec of its frames, and the protocol of a connection."""
