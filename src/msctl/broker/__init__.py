"""The embedded AMQP 0-9-1 server: behaves as RabbitMQ 3.10 does, lives in memory, speaks to any client."""
