"""Derivatives that a model of the user's own makes unusual."""

import copy

import pytest
import torch

import pullback as pb
from reference import eigenvalues, spectra_agree


class Once(torch.autograd.Function):
    """3 tanh, whose backward pass cannot be differentiated; and nothing says so."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 3 * x.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * g * (1 - x.tanh() ** 2)


class Custom(torch.nn.Module):
    """A function of its own in the decoder, or in the encoder as well."""

    def __init__(self, everywhere=False):
        super().__init__()
        torch.manual_seed(4)
        self.hidden, self.mu, self.logvar = torch.nn.Linear(12, 8), torch.nn.Linear(8, 3), torch.nn.Linear(8, 3)
        self.up, self.down = torch.nn.Linear(3, 8), torch.nn.Linear(8, 12)
        self.everywhere, self.once = everywhere, Once.apply

    def encode(self, x):
        h = self.hidden(x.flatten(1))
        h = h + self.once(h) if self.everywhere else h.tanh()
        return self.mu(h), self.logvar(h)

    def decode(self, z):
        h = self.up(z)
        return torch.sigmoid(self.down(h + self.once(h))).view(-1, 1, 3, 4)


def _twin(model):
    """The same model, by functions that can be differentiated twice."""
    twin = copy.deepcopy(model).double()
    twin.once = lambda x: 3 * x.tanh()
    return twin


@pytest.mark.parametrize("metric", ["output", "output-stochastic", "decoder"])
@pytest.mark.parametrize("precision", ["f32", "f64"])
def test_a_function_that_is_differentiable_once_counts_whole(metric, precision):
    torch.manual_seed(0)
    model, x = Custom(), torch.rand(6, 1, 3, 4)
    twin = _twin(model)
    found = pb.score(model, x, metric=metric, precision=precision, quiet=True)
    expected = eigenvalues(twin.encode, twin.decode, x, metric)
    spectra_agree(found.spectrum, expected, 2e-6 if precision == "f32" else 1e-12)


def test_a_small_part_of_it_counts_too():
    torch.manual_seed(0)
    model, x = Custom(), torch.rand(6, 1, 3, 4)
    twin = _twin(model)
    model.once, twin.once = (lambda h: 0.002 * Once.apply(h)), (lambda h: 0.006 * h.tanh())
    found = pb.score(model, x, metric="decoder", quiet=True)
    spectra_agree(found.spectrum, eigenvalues(twin.encode, twin.decode, x, "decoder"))


def test_products_with_it_are_refused():
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="differentiated twice"):
        pb.score(Custom(everywhere=True), torch.rand(6, 1, 3, 4), metric="mean", spectrum="top", quiet=True)


def test_a_hook_changes_what_it_changes_in_pytorch():
    class Hooked(Custom):
        def encode(self, x):
            h = self.hidden(x.flatten(1)).tanh()
            if h.requires_grad:
                h.register_hook(lambda g: 2 * g)
            return self.mu(h), self.logvar(h)

    torch.manual_seed(0)
    x = torch.rand(6, 1, 3, 4)
    full = pb.score(Hooked(), x, metric="mean", quiet=True)
    plain = pb.score(Custom(), x, metric="mean", quiet=True)
    assert torch.allclose(full.spectrum, 4 * plain.spectrum, rtol=1e-5)
