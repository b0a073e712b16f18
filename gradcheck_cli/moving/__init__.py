"""Networks as functions whose values and entries can be perturbed. No derivatives are computed here."""
