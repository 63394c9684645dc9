"""Configuration: `msctl.toml`, `.env`, variables and flags in, a resolved Project out.

Every complaint is a ConfigError that names the file, the line and the key. Reads files and nothing
else; knows what is declared, and none of the parts that act on it.
"""
