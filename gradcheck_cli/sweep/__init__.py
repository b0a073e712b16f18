"""The error of the difference schemes over step sizes."""
