"""The embedded AMQP 0-9-1 server. It behaves as RabbitMQ 3.10 does and keeps everything in memory.

`protocol` turns bytes into frames and back, `session` holds the state of connections and channels,
`core` holds queues, exchanges and routing. These three are pure; `server` owns the sockets.
"""
