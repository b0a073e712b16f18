"""A small network in jax, with gradients by jax.grad."""

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def parameters():
    rng = np.random.default_rng(0)
    sizes = {"w1": (8, 64), "b1": (8,), "w2": (10, 8), "b2": (10,)}
    return {name: rng.normal(0.0, 0.3, shape) for name, shape in sizes.items()}


def losses(p, x, y):
    hidden = jnp.tanh(x @ p["w1"].T + p["b1"])
    log_p = jax.nn.log_softmax(hidden @ p["w2"].T + p["b2"])
    return -log_p[jnp.arange(len(y)), y] / len(y)


@jax.jit
def loss_and_gradients(p, x, y):
    return jax.value_and_grad(lambda p: losses(p, x, y).sum())(p)
