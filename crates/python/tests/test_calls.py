"""How often Python is called: once a pass of a block, whatever number of cotangents the pass is pulled back by."""

import pytest
import torch

import pullback as pb
from conftest import Conv

BLOCK, BLOCKS = 8, 3
# The engine looks at the first eight samples beforehand.
LOOK = 1


class Counting(torch.nn.Module):
    """A VAE that counts the calls for whole blocks. What else the engine asks beforehand are one or two samples."""

    def __init__(self, vae):
        super().__init__()
        self.vae, self.encodes, self.decodes = vae, 0, 0

    def encode(self, x):
        self.encodes += len(x) == BLOCK
        return self.vae.encode(x)

    def decode(self, z):
        self.decodes += len(z) == BLOCK
        return self.vae.decode(z)


@pytest.fixture
def blocks(images):
    return images.repeat(BLOCKS, 1, 1, 1)


# Two, ten and 128 rows.
@pytest.mark.parametrize("latent", [1, 5, 64])
@pytest.mark.parametrize(
    ("options", "decodes"),
    [
        ({"metric": "mean"}, 0),
        ({"metric": "stochastic"}, 0),
        ({"metric": "stochastic", "spectrum": "top", "top": 2}, 0),
        ({"metric": "decoder"}, 1),
        ({"metric": "output"}, 1),
        ({"metric": "output-stochastic", "spectrum": "top", "top": 2}, 1),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_spectrum_is_one_pass(blocks, latent, options, decodes):
    torch.manual_seed(0)
    vae = Counting(Conv(latent))
    pb.score(pb.Model(vae, posterior="logvar"), blocks, batch=BLOCK, quiet=True, **options)
    assert (vae.encodes, vae.decodes) == (BLOCKS + LOOK, decodes * BLOCKS + LOOK)


def test_a_step_of_an_attack_is_one_pass(conv, blocks):
    def passes(steps):
        vae = Counting(conv)
        pb.attack(pb.Model(vae, posterior="logvar"), blocks, attacks=["pgd"], eps=[0.5], steps=steps, batch=BLOCK, quiet=True)
        return vae.encodes, vae.decodes

    few, many = passes(10), passes(25)
    assert many[0] - few[0] == 15 * BLOCKS
    # Beside the steps: the images as they are, the start, and what the attack ends at; the goal asks no decoder, the measures do.
    assert few == (13 * BLOCKS + LOOK, 2 * BLOCKS + LOOK)
    assert many[1] == few[1]
