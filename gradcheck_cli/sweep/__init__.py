"""The error of each difference scheme as a function of its step."""
