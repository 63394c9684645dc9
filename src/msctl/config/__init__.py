"""Configuration: `msctl.toml`, `.env`, variables and flags in, a resolved Project out.

Every error is a ConfigError that names the file, the line and the key. Does no I/O but reading files,
and knows none of the packages that act on the configuration.
"""
