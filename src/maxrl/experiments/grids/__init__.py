"""Grids: many runs from one spec, and the places where they are made."""
