"""RabbitMQ clients, and RabbitMQ itself as the reference."""
