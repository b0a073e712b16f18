"""Plant mistakes in correct gradients, and find out whether a check catches these mistakes."""
