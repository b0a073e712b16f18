"""A network as something whose numbers can be moved. The numerical side sees of it positions and losses alone."""
