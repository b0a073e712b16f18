"""Layers made of several steps. Each one adds its nodes to a graph."""
