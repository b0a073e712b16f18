"""Read arrays from files: formats, names, layouts and limits. Nothing here knows about networks."""
