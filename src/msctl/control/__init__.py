"""The control socket, through which every verb except `up`, `send`, `consume` and `export` uses a stack."""
