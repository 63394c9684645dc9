"""The control socket: how every verb but `up`, `send`, `consume` and `export` reaches a stack."""
