"""Faults on the running stack: what can be broken on purpose, where, and for how long. Pure.

A `FaultSpec` says what to break. `FaultBook` keeps the active ones, which always end. Gateway, broker and
supervisor ask at one point each; while no fault of theirs is active, what they ask is None.
"""
