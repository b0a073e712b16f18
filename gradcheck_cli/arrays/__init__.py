"""Arrays from files: formats, names, layouts and limits. Nothing here knows a network."""
