"""HTTPS: loading and checking certificates, the listeners' TLS context, and a local authority."""
