"""A network as something whose numbers can be moved: positions and losses, and no derivative."""
