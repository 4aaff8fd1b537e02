"""The task `maze`: the paper's, to the token."""

from maxrl.tasks.maze.task import Maze

__all__ = ["Maze"]
