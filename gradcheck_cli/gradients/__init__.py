"""Where the analytic gradients of a network come from: its own backprop or a file. No differences here."""
