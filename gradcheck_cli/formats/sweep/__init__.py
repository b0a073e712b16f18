"""The renderings of a sweep: text and JSON, each with `render(sweep, view, spec)`, and a picture."""
