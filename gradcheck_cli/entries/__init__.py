"""The entry-by-entry check of gradients."""
