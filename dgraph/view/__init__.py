"""Pictures of graphs: a scene of what is shown, a layout of where, and painters for SVG, PNG, PDF and DOT."""

from dgraph.view.digest import NOT_RUN, digest
from dgraph.view.draw import draw, render, svg
from dgraph.view.from_graph import scene_of
from dgraph.view.record import Recording, record
from dgraph.view.scene import Edge, RegionBox, Scene, SceneNode

__all__ = [
    "NOT_RUN",
    "Edge",
    "Recording",
    "RegionBox",
    "Scene",
    "SceneNode",
    "digest",
    "draw",
    "record",
    "render",
    "scene_of",
    "svg",
]
