"""The renderings of a sweep: a picture, and text and JSON, each with `render(sweep, view, spec)`."""
