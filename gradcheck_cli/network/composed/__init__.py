"""Layers that are made of several steps: functions that add their nodes to a graph."""
