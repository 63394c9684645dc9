"""What the stack records about itself and its services."""
