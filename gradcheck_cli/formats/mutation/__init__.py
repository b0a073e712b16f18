"""The renderings of planted mistakes, one file per format, each with `render(mutation, view, spec)`."""
