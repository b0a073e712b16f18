"""Why a gradient is wrong: the mistake that leads to it, by name."""
