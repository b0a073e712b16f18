"""The user's own functions: load them, call them, measure their noise. Nothing here computes a derivative."""
