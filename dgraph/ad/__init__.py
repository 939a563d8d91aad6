"""Derivatives and batching, graph to graph: jvp, unzip, transpose, vmap."""

from dgraph.ad import custom, implicit
from dgraph.ad.expand import expand, expand_but_rules
from dgraph.ad.jvp import jvp
from dgraph.ad.vjp import linearize, vjp
from dgraph.ad.vmap import vmap

__all__ = ["expand", "expand_but_rules", "jvp", "linearize", "vjp", "vmap"]

RULES = (custom, implicit)
"""The files whose rules are entered in the tables by importing them."""
