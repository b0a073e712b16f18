"""Load the user's functions, call them, and measure their noise. Nothing here computes a derivative."""
