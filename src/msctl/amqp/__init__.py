"""Our side of AMQP 0-9-1 as a client, on aio-pika: connect, declare, publish with confirms, consume.

Knows nothing of the command line, of HTTP or of the stack. Connections are plain ones, never
aio-pika's robust kind: that retries some failures for ever in silence. Whoever outlives a
connection uses `standing`, which says what it is doing.
"""
