"""Where instances are found and announced."""
