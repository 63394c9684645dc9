"""The command line: verbs, the one renderer, and the one boundary where errors are printed."""
