"""Output in the docs may differ from a command's output only in rounding."""

from __future__ import annotations

import pytest
from shown import settled

SHOWN = """\
configs/wrong_gradient.yaml
  64-50-10, 2 × sigmoid, 100 samples; mse (batchmean) 2.80392

✗ wrong: 51 of 510 entries, in output.weight and output.bias; the worst is -0.0945; agrees: all 3,760.

  tensor            shape entries  rel error  median  worst entry   analytic   numerical ± error  verdict
  output.weight   10 × 50   500    7.5e-01  5.4e-14  [3, 27]   0.6259601053  0.1549194965 ± 9e-10  50 wrong
  hidden1.weight  50 × 64 3,200    1.7e-13  2.2e-16  [4, 20]   0.0668030271  0.0668030271 ± 2e-10  agrees

  output.weight, 10 × 50
    2 |                                                  |
    3 |██████████████████████████████████████████████████| ✗

analytic / numerical is 10 in 4 of 4 wrong tensors; 100.0% are named.
1 failed, 1 deselected in 1.29s
"""


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("1.7e-13", "5.0e-14"),
        ("2.2e-16", "0"),
        ("[4, 20]", "[3, 1]"),
        ("0.1549194965 ± 9e-10", "0.1549194964 ± 7e-10"),
        ("in 1.29s", "in 12.31s"),
    ],
)
def test_rounding_differences_do_not_count_as_other_output(shown, printed):
    assert shown in SHOWN
    ours, readers = settled(SHOWN.replace(shown, printed), SHOWN)
    assert ours == readers


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("agrees: all", "agree: all"),
        ("in output.weight and output.bias", "in output.weight and hidden1.bias"),
        ("50 wrong", "49 wrong"),
        ("7.5e-01", "7.4e-01"),
        ("1.7e-13", "1.7e-03"),
        ("0.1549194965", "0.1549294965"),
        ("-0.0945", "0.0945"),
        ("2.80392", "2.80393"),
        ("[3, 27]", "[3, 26]"),
        ("[4, 20]", "[8]"),
        ("3,760", "3,761"),
        ("50 × 64", "64 × 50"),
        ("✗ wrong: 51", "\n✗ wrong: 51"),
        ("3 |███", "4 |███"),
        ("    3 |███", "   3 |███"),
        ("in 4 of 4", "in 3 of 4"),
        ("100.0%", "99.9%"),
    ],
)
def test_any_other_difference_counts(shown, printed):
    assert shown in SHOWN
    ours, readers = settled(SHOWN.replace(shown, printed), SHOWN)
    assert ours != readers
