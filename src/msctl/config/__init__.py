"""Configuration: `msctl.toml`, `.env`, variables and flags in, a resolved Project out.

Every complaint is a ConfigError that names the file, the line and the key. Reads files and nothing
else; knows the model, and none of the parts that act on it.
"""

from msctl.config.load import ProjectIdentity, Resolved, identify, load
from msctl.config.origin import Layer, Origin
from msctl.config.render import Explained, explain, to_document, to_toml
from msctl.config.sources import FILE_NAME, find_file

__all__ = [
    "FILE_NAME",
    "Explained",
    "Layer",
    "Origin",
    "ProjectIdentity",
    "Resolved",
    "explain",
    "find_file",
    "identify",
    "load",
    "to_document",
    "to_toml",
]
