"""The spec: its models, its file, its errors, its JSON Schema and starters. Nothing here computes."""
