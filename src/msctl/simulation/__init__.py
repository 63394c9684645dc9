"""A project's hosted services, gateway and broker on virtual time and a seeded network.

The same seed gives the same run, to the byte: a failure that one run in a thousand has can be replayed.
"""
