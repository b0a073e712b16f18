"""Networks as functions whose numbers can be perturbed: positions and losses, but no derivatives."""
