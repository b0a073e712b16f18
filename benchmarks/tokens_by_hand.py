"""Embeddings, positional embeddings, PReLU and dropout, with forward and backward passes written by hand."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from layers_by_hand import Array, Hand, Mistakes


class Embedding(Hand):
    MISTAKES: ClassVar[Mistakes] = {
        "the last position alone": ("repeated tokens counted once",),
        "averaged over positions": ("repeated tokens averaged",),
        "padding trained": ("padding row trained",),
    }

    def forward(self, x: Array) -> Array:
        self.tokens = x.astype(int)
        return self.w("weight")[self.tokens]

    def backward(self, d: Array) -> Array:
        gradient = np.zeros_like(self.w("weight"))
        counts = np.zeros(len(gradient))
        for place in np.ndindex(*self.tokens.shape):
            token = self.tokens[place]
            counts[token] += 1
            if self.made("the last position alone"):
                gradient[token] = d[place]
            else:
                gradient[token] += d[place]
        if self.made("averaged over positions"):
            gradient /= np.maximum(counts, 1)[:, None]
        if not self.made("padding trained"):
            gradient[0] = 0.0
        self.found("weight", gradient)
        return np.zeros(self.tokens.shape)


class Positions(Hand):
    MISTAKES: ClassVar[Mistakes] = {
        "averaged": ("positions averaged over samples", "1/N twice"),
        "the last sample": ("positions' gradient from one sample",),
        "all positions": ("positions summed",),
    }

    def forward(self, x: Array) -> Array:
        return x + self.w("weight")

    def backward(self, d: Array) -> Array:
        gradient = d.sum(axis=0)
        if self.made("averaged"):
            gradient = d.mean(axis=0)
        if self.made("the last sample"):
            gradient = d[-1]
        if self.made("all positions"):
            gradient = np.broadcast_to(gradient.sum(axis=0), gradient.shape)
        self.found("weight", gradient)
        return d


class PRelu(Hand):
    """One slope for the whole layer."""

    MISTAKES: ClassVar[Mistakes] = {
        "slope forgotten": ("prelu: slope forgotten",),
        "nothing below 0": ("prelu: nothing below 0",),
        "the slope of leaky relu": ("prelu: slope of leaky relu",),
        "slope's gradient above 0": ("prelu: slope's gradient above 0",),
        "slope's gradient averaged": ("prelu: slope's gradient averaged",),
    }

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.where(x > 0, x, self.w("weight") * x)

    def backward(self, d: Array) -> Array:
        of_slope = d * (self.x if self.made("slope's gradient above 0") else np.minimum(self.x, 0.0))
        total = of_slope.mean() if self.made("slope's gradient averaged") else of_slope.sum()
        self.found("weight", np.array([total]))
        slope = self.w("weight")[0]
        if self.made("slope forgotten"):
            slope = 1.0
        if self.made("nothing below 0"):
            slope = 0.0
        if self.made("the slope of leaky relu"):
            slope = 0.01
        return np.where(self.x > 0, d, slope * d)


class Dropout(Hand):
    """Dropout with the mask of the spec, which includes the factor 1/(1 − p)."""

    MISTAKES: ClassVar[Mistakes] = {
        "mask not in backward": ("dropout: mask not in backward",),
        "mask twice": ("dropout: mask applied twice",),
        "scale forgotten": ("dropout: scale forgotten",),
        "mask inverted": ("dropout: mask inverted",),
    }

    def forward(self, x: Array) -> Array:
        return x * self.options["mask"]

    def backward(self, d: Array) -> Array:
        mask = self.options["mask"]
        if self.made("mask not in backward"):
            return d
        if self.made("mask inverted"):
            return d * (mask == 0) * mask.max()
        if self.made("scale forgotten"):
            return d * (mask > 0)
        return d * mask * (mask if self.made("mask twice") else 1.0)
