"""Recognise a layer by what its forward function computes, to name mistakes in its backward function.

A layer that is checked by its forward and backward functions comes without a description. But if one of our
own layers computes the same outputs from the same arguments, the wrong formulas of that layer can be tried,
as for a network that a spec describes.
"""
