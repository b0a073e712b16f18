"""Get the analytic gradients of a network, from gradcheck's own backprop or from a file.

Nothing here computes finite differences.
"""
