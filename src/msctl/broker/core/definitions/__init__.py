"""RabbitMQ's definitions: users, permissions, policies and topology as one JSON document. Pure.

`document` checks a document, `importer` applies it to a broker, `exporter` writes that of a broker.
"""
