"""Sparse derivatives: which entries of a Jacobian can differ from zero (`patterns`), which of them share a sweep
(`colouring`), and the graph of these sweeps (`compress`).

The pattern is found by the host at a call, for the sizes and the integers of its arguments.
"""
