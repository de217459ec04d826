"""torchvision's models compute what torchvision computes; the table works in both directions."""

import pytest

from tests.convert import zoo

SLOW = ('r2plus1d_18', 'r3d_18')


@pytest.mark.parametrize(
  'variant', ['mc3_18', *(pytest.param(v, marks=pytest.mark.slow) for v in SLOW)]
)
def test_logits_and_names_both_ways(variant):
  zoo.check('torchvision', variant, f'tv_{variant}')
