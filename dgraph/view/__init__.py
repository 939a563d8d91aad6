"""Pictures of graphs: a scene of what is shown, a layout of where, and painters for SVG, PNG, PDF and DOT."""

from dgraph.view.digest import NOT_RUN, digest
from dgraph.view.draw import draw, draw_picture, render, svg
from dgraph.view.from_graph import scene_of
from dgraph.view.record import Recording, record
from dgraph.view.scene import Edge, RegionBox, Scene, SceneNode
from dgraph.view.schedule import Act, Kept, Schedule, StepKind, schedule_picture

__all__ = [
    "NOT_RUN",
    "Act",
    "Edge",
    "Kept",
    "Recording",
    "RegionBox",
    "Scene",
    "SceneNode",
    "Schedule",
    "StepKind",
    "digest",
    "draw",
    "draw_picture",
    "record",
    "render",
    "scene_of",
    "schedule_picture",
    "svg",
]
