"""The spec: its models, file, error messages, JSON Schema and starters. No module here computes gradients."""
