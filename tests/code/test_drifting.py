"""Code whose loss at the same parameters changes while it is checked."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck_cli import InputError, check_gradients


@pytest.mark.parametrize("after", [80, 100])
def test_a_loss_that_changes_after_many_calls_is_no_wrong_gradient(after):
    calls = []

    def f(w):  # as with a schedule that starts late
        calls.append(1)
        scale = 1.0 if len(calls) <= after else 2.0
        return scale * (w**2).sum(), 2.0 * scale * w

    with pytest.raises(InputError, match=r"for the same arguments after more calls: it keeps state"):
        check_gradients(f, np.linspace(0.5, 2.0, 40))


def test_a_loss_from_a_cache_by_identity_is_refused():
    kept = {}

    def f(w):
        return kept.setdefault(id(w), (w**2).sum()), 2 * w

    with pytest.raises((InputError, AssertionError)):
        check_gradients(f, np.linspace(0.5, 2.0, 4))
