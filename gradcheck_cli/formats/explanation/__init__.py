"""The renderings of a derivation, one file per format, each with `render(explanation, view, spec)`."""
