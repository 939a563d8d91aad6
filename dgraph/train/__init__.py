"""Training: the `@train` and `@metric` functions of a program over data, into a run folder."""

from dgraph.train.loop import train_program

__all__ = ["train_program"]
