"""RabbitMQ's HTTP management API for the embedded broker, as the management plugin of 3.10 answers it."""
