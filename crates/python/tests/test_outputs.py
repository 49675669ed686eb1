"""What encoders and decoders give, and how it is read."""

import collections
import copy
import dataclasses
import re
import runpy

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal

import pullback as pb
from pullback import _outputs
from reference import eigenvalues, spectra_agree

Pair = collections.namedtuple("Pair", "mean log_var")


@dataclasses.dataclass
class Code:
    mu: torch.Tensor
    sigma: torch.Tensor


class Bag:
    def __init__(self, **parts):
        self.__dict__.update(parts)


def _vae(give):
    torch.manual_seed(3)
    into = torch.nn.Linear(12, 6)

    def parts(x):
        mu, logvar = into(x.flatten(1)).tanh().chunk(2, 1)
        return mu, logvar

    back = torch.nn.Linear(3, 12)
    return parts, into, (lambda x: give(*parts(x))), (lambda z: back(z).view(-1, 1, 3, 4))


def _reading(model):
    return str(model).splitlines()[1]


GIVEN = {
    "pair": (lambda m, v: (m, v), "logvar (it has negative values"),
    "list": (lambda m, v: [m, v], "logvar (it has negative values"),
    "named tuple": (lambda m, v: Pair(m, v), ".mean and .log_var, read as logvar"),
    "dataclass": (lambda m, v: Code(m, (v / 2).exp()), ".mu and .sigma, read as std"),
    "dict": (lambda m, v: {"z": m + 1, "mean": m, "logvar": v}, ".mean and .logvar, read as logvar"),
    "pythae's dict": (lambda m, v: {"embedding": m, "log_covariance": v}, "read as logvar"),
    "object": (lambda m, v: Bag(loc=m, scale=(v / 2).exp()), "read as std"),
    "log sigma": (lambda m, v: {"mu": m, "log_sigma": v / 2}, "read as logstd"),
    "variance": (lambda m, v: {"mu": m, "var": v.exp()}, "read as var"),
    "several scales": (lambda m, v: Bag(mean=m, std=(v / 2).exp(), var=v.exp(), logvar=v), "read as logvar"),
    "Normal": (lambda m, v: Normal(m, (v / 2).exp()), "a Normal"),
    "Independent": (lambda m, v: Independent(Normal(m, (v / 2).exp()), 1), "an Independent Normal"),
    "Normal and more": (lambda m, v: (Normal(m, (v / 2).exp()), 3), "a Normal"),
    "more and Normal": (lambda m, v: (m + 1, Normal(m, (v / 2).exp())), "a Normal, output 1 of 2"),
    "Normal and features": (lambda m, v: (Normal(m, (v / 2).exp()), m + 1), "a Normal, output 0 of 2"),
    "a prior's scale": (lambda m, v: {"mu": m, "std": (v / 2).exp(), "prior_logvar": v * 0}, ".mu and .std"),
    "a prior": (
        lambda m, v: {"prior_mean": m * 0, "prior_logvar": v * 0, "mean": m, "logvar": v},
        ".mean and .logvar",
    ),
    "Normal of another name": (lambda m, v: {"features": m + 1, "q": Normal(m, (v / 2).exp())}, "a Normal of .q"),
    "prior beside": (
        lambda m, v: {"mu": m, "logvar": v, "prior": Normal(m * 0, 1 + m**2)},
        ".mu and .logvar, read as logvar",
    ),
    "a name that ends so": (
        lambda m, v: {"z_prior": Normal(m * 0, 1 + m**2), "q": Normal(m, (v / 2).exp())},
        "a Normal of .q",
    ),
    "nested": (lambda m, v: Bag(latent_dist=Bag(mean=m, logvar=v)), "of .latent_dist"),
    "spatial": (lambda m, v: (m.view(-1, 3, 1, 1), v.view(-1, 3, 1, 1)), "read as mu and logvar"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_what_encoders_give(name):
    give, words = GIVEN[name]
    parts, into, encode, decode = _vae(give)
    back = decode if name != "spatial" else (lambda z: decode(z.flatten(1)))
    model = pb.Model(into, encode=encode, decode=back)
    x = torch.rand(4, 1, 3, 4)
    found = pb.score(model, x, metric="stochastic", quiet=True)
    assert words in _reading(model), str(model)
    exact = lambda x: tuple(t.double() for t in parts(x.float()))  # noqa: E731
    spectra_agree(found.spectrum, eigenvalues(exact, decode, x, "stochastic"), 1e-5)


@pytest.mark.parametrize(
    ("scale", "names"),
    {
        "logvar": "logvar log_var ln_var log_variance log_sigma2 ln_sigma2 ln_sigma_sq lnsigma2 log_scale2 log_std_sq log_sd2",
        "logstd": "logstd log_std log_sigma ln_sigma log_scale log_stddev log_sd log_sig",
        "std": "std sigma scale z_std sd",
        "var": "var variance sigma2 sigma_sq",
        None: "log_precision signal log_signal logits tau",
    }.items(),
)
def test_names_of_scales(scale, names):
    assert {name: _outputs.scale_of(name) for name in names.split()} == dict.fromkeys(names.split(), scale)


def test_what_only_the_caller_can_tell_is_asked():
    class Precise(torch.nn.Linear):
        def encode(self, x):
            mu, log_precision = self(x.flatten(1)).chunk(2, 1)
            return mu, log_precision

    class Two(torch.nn.Linear):
        def encode(self, x):
            mu, logvar = self(x.flatten(1)).chunk(2, 1)
            return {"q": Normal(mu, logvar.exp()), "r": Normal(mu, logvar.exp())}

    class Named(torch.nn.Linear):
        def encode(self, x):
            mu, log_tau = self(x.flatten(1)).chunk(2, 1)
            return {"mu": mu, "log_tau": log_tau}

    class Either(torch.nn.Linear):
        def encode(self, x):
            mu, logvar = self(x.flatten(1)).chunk(2, 1)
            return {"mu": mu, "logvar_a": logvar, "logvar_b": 2 * logvar}

    class Featured(torch.nn.Linear):
        def encode(self, x):
            mu, logvar = self(x.flatten(1)).chunk(2, 1)
            return {"prior": Normal(mu * 0, logvar.exp()), "features": mu}

    class Pooled(torch.nn.Linear):
        def encode(self, x):
            mu, logvar = self(x.flatten(1)).chunk(2, 1)
            loss = mu**2
            return mu, logvar, loss.mean()

    class Ladder(torch.nn.Linear):
        def encode(self, x):
            mu, logvar = self(x.flatten(1)).chunk(2, 1)
            return [[mu, logvar], [mu, logvar]]

    class Rounded(torch.nn.Linear):
        def encode(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                mu, logvar = self(x.flatten(1)).chunk(2, 1)
            return mu, logvar

    x = torch.rand(3, 1, 3, 4)
    torch.manual_seed(3)

    def model(kind):
        vae = kind(12, 6)
        vae.decode = torch.nn.Linear(3, 12)
        return pb.Model(vae)

    for kind, words in {
        Precise: "found log_precision, a precision",
        Named: "found log_tau, a precision",
        Two: "one distribution, found q, r",
        Either: "one scale for mu, found logvar_a, logvar_b",
        Featured: "a mean among its outputs, found prior, features",
        Rounded: "found bfloat16",
        Ladder: r"found 2 outputs \(list, list\) \(encode=lambda x: ... says what to take",
    }.items():
        with pytest.raises(ValueError, match=words):
            pb.score(model(kind), x, quiet=True)
    with pytest.raises(ValueError, match="give the model a batch first"):
        pb.Model(torch.nn.LazyLinear(6))
    pooled = model(Pooled)
    pb.score(pooled, x, quiet=True)
    assert "outputs 0 and 1, read as mu and logvar" in _reading(pooled)


def test_models_that_keep_tensors_of_a_pass_are_copied():
    class Keeps(torch.nn.Linear):
        def encode(self, x):
            mu, logvar = self(x.flatten(1)).chunk(2, 1)
            self.kl = [(mu**2 + logvar.exp() - logvar).sum()]
            self.kl.append(self.kl)
            self.q = torch.distributions.Normal(mu, (logvar / 2).exp())
            return mu, logvar

    torch.manual_seed(3)
    x, decode = torch.rand(3, 1, 3, 4), torch.nn.Linear(3, 12).double()
    kept = torch.nn.utils.weight_norm(Keeps(12, 6))
    kept.encode(x)
    exact = copy.deepcopy(Keeps(12, 6)).double()
    exact.load_state_dict({"weight": kept.weight.detach(), "bias": kept.bias.detach()})
    back = torch.nn.Linear(3, 12)
    back.load_state_dict(decode.state_dict())
    kept.decode = back
    found = pb.score(pb.Model(kept), x, precision="f64", quiet=True)
    spectra_agree(found.spectrum, eigenvalues(exact.encode, decode, x, "stochastic"), 1e-7)
    assert kept.kl[0].grad_fn is not None


def test_names_in_the_source_tell():
    class Named(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc_mu, self.fc_sigma = torch.nn.Linear(12, 2), torch.nn.Linear(12, 2)

        def encode(self, x):
            h = x.flatten(1)
            z_mean, z_std = self.fc_mu(h), self.fc_sigma(h).exp()
            return z_mean + z_std, z_mean, z_std

        def decode(self, z):
            return z.repeat(1, 6).view(-1, 1, 3, 4)

    model = pb.Model(Named())
    pb.score(model, torch.rand(3, 1, 3, 4), quiet=True)
    assert "outputs 1 and 2, read as mu and std (the code calls it z_std)" in str(model)


SOURCE = """
import torch
from torch import nn
class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 4)
    def forward(self, x):
        mu, log_sigma = self.fc(x.flatten(1)).chunk(2, 1)
        logvar, h = 2 * log_sigma, mu + 1
        return {returned}
class Vae(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Encoder()
    def inner(self, x):
        return self.net(x)
    def encode(self, x):
        return self.{through}(x)
    def decode(self, z):
        return z.repeat(1, 6).view(-1, 1, 3, 4)
"""


@pytest.mark.parametrize("through", ["net", "net.forward", "inner", None])
@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ("mu, log_sigma", "outputs 0 and 1, read as mu and logstd (the code calls it log_sigma)"),
        ("[mu, log_sigma]", "outputs 0 and 1, read as mu and logstd (the code calls it log_sigma)"),
        ("logvar, mu", "outputs 1 and 0, read as mu and logvar (the code calls it logvar)"),
        ("h, mu, logvar", "outputs 1 and 2, read as mu and logvar (the code calls it logvar)"),
        ("mu.flatten(1), log_sigma.clamp(-5, 2)", "read as mu and logstd (the code calls it log_sigma)"),
        ("mu, torch.clamp(log_sigma, -5, 2).float()", "read as mu and logstd (the code calls it log_sigma)"),
        ("mu, log_sigma.exp()", None),
    ],
)
def test_names_are_followed_into_modules(through, returned, words, tmp_path):
    (tmp_path / "followed.py").write_text(SOURCE.format(through=through or "net", returned=returned))
    vae = runpy.run_path(str(tmp_path / "followed.py"))["Vae"]()
    sequence = torch.nn.Sequential(torch.nn.Identity(), vae.net)
    x = torch.rand(4, 1, 3, 4)
    for made in ({}, {"outputs": (0, 1)}) if words and "0 and 1" in words else ({},):
        model = pb.Model(vae, encode=sequence if through is None else None, **made)
        if words is None:
            with pytest.raises(ValueError, match="known to be a variance of some kind"):
                pb.score(model, x, quiet=True)
            continue
        found = pb.score(model, x, metric="fisher", quiet=True)
        assert words in _reading(model), str(model)
        exact = torch.nn.Linear(12, 4).double()
        exact.load_state_dict(vae.net.fc.state_dict())

        def encode(x, exact=exact):
            mu, log_sigma = exact(x.flatten(1)).chunk(2, 1)
            return mu, 2 * log_sigma

        spectra_agree(found.spectrum, eigenvalues(encode, vae.decode, x, "fisher"), 1e-5)


@pytest.mark.parametrize(
    ("returned", "code"),
    [("mu, z", 0), ("z, mu", 1), ("mu, self.reparameterize(mu)", 0), ("log_var, mu_2", 0), ("mu, sample", 0)],
)
def test_names_of_no_scale_are_asked_for(returned, code, tmp_path):
    (tmp_path / f"named_{code}.py").write_text(
        "import torch\n"
        "class Named(torch.nn.Linear):\n"
        "    def reparameterize(self, mu):\n"
        "        return mu - 1\n"
        "    def encode(self, x):\n"
        "        mu = self(x.flatten(1))\n"
        "        z = sample = mu_2 = log_var = mu - 1\n"
        f"        return {returned}\n"
        "    def decode(self, z):\n"
        "        return z.repeat(1, 6).view(-1, 1, 3, 4)\n"
    )
    space = runpy.run_path(str(tmp_path / f"named_{code}.py"))
    vae, x = space["Named"](12, 2), torch.rand(3, 1, 3, 4)
    with pytest.raises(
        ValueError, match=rf"mu and a scale, or mu alone, found 2 outputs \({re.escape(returned.split(', ')[0])}"
    ) as raised:
        pb.score(vae, x, quiet=True)
    assert f"outputs=({code},)" in str(raised.value) and "\n" not in str(raised.value)
    # What the caller says goes before names.
    pb.score(pb.Model(vae, outputs=(code,)), x, metric="mean", quiet=True)
    pb.score(pb.Model(vae, posterior="logvar"), x, quiet=True)


@pytest.mark.parametrize("scale", ["std", "var", "logvar"])
def test_the_scale_that_is_said_is_the_one_that_is_read(scale):
    parts, into, encode, decode = _vae(lambda m, v: Bag(mean=m, logvar=v, std=(v / 2).exp(), var=v.exp()))
    model = pb.Model(into, encode=encode, decode=decode, posterior=scale)
    x = torch.rand(4, 1, 3, 4)
    exact = lambda x: tuple(t.double() for t in parts(x.float()))  # noqa: E731
    found = pb.score(model, x, metric="stochastic", quiet=True)
    assert f".mean and .{scale}, read as {scale}" in _reading(model)
    spectra_agree(found.spectrum, eigenvalues(exact, decode, x, "stochastic"), 1e-5)


@pytest.mark.parametrize(
    ("give", "asked"),
    [
        (lambda m, v: (m, v.exp()), r"posterior='std', 'var', 'logvar' or 'logstd'"),
        (lambda m, v: (m, v, m, v), r"outputs=\(0, 1\)"),
        (lambda m, v: (m, v[:, :1]), r"outputs=\(0, 1\)"),
        (lambda m, v: "words", r"encode=lambda x"),
        (lambda m, v: MultivariateNormal(m, torch.diag_embed(v.exp())), r"posterior='std'"),
        (lambda m, v: {"embedding": m, "log_concentration": v[:, :1]}, "no mu and sigma"),
        (lambda m, v: (Normal(m, v.exp()), Normal(m + 1, v.exp())), r"one distribution, found 2 .*outputs=\(1,\)"),
        (lambda m, v: {"mu": m, "sigma": v}, r"found one called sigma, with negative values"),
        (
            lambda m, v: {"mu": m, "logvar": v[:, :2]},
            r"a scale for mu \[\d, 3\], found logvar \[\d, 2\].*outputs=\('mu',\)",
        ),
        (lambda m, v: {"a": m, "b": v}, r"outputs=\('mean', 'scale'\)"),
        (lambda m, v: m[0], r"a tensor \[1, ...\] for 1 sample"),
        (lambda m, v: (m.detach(), v), "without"),
    ],
)
def test_what_cannot_be_told_is_asked_for(give, asked):
    _, into, encode, decode = _vae(give)
    with pytest.raises(ValueError, match=asked) as raised:
        pb.score(pb.Model(into, encode=encode, decode=decode), torch.rand(3, 1, 3, 4), quiet=True)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("scale", "of"),
    [
        ("std", lambda v: (v / 2).exp()),
        ("var", lambda v: v.exp()),
        ("logstd", lambda v: v / 2),
        ("logvar", lambda v: v),
    ],
)
def test_the_answer_is_taken(scale, of):
    parts, into, encode, decode = _vae(lambda m, v: (m, of(v)))
    x = torch.rand(4, 1, 3, 4)
    exact = lambda x: tuple(t.double() for t in parts(x.float()))  # noqa: E731
    for outputs in (None, (0, 1)):
        model = pb.Model(into, encode=encode, decode=decode, posterior=scale, outputs=outputs)
        found = pb.score(model, x, metric="fisher", quiet=True)
        spectra_agree(found.spectrum, eigenvalues(exact, decode, x, "fisher"), 1e-5)


SHARED = {
    "one of each sample": lambda v: v[:, :1],
    "one of each latent": lambda v: torch.tensor([-1.0, -2.0, 0.5]),
    "one of all": lambda v: torch.tensor(-1.5),
}


@pytest.mark.parametrize("name", SHARED)
def test_a_scale_that_latents_share(name):
    of = SHARED[name]
    for give in (lambda m, v: {"mu": m, "logvar": of(v)}, lambda m, v: Bag(mean=m, std=(of(v) / 2).exp())):
        parts, into, encode, decode = _vae(give)
        x = torch.rand(4, 1, 3, 4)
        found = pb.score(pb.Model(into, encode=encode, decode=decode), x, metric="fisher", quiet=True)

        def exact(x, parts=parts):
            m, v = parts(x.float())
            return m.double(), of(v).expand_as(m).double()

        spectra_agree(found.spectrum, eigenvalues(exact, decode, x, "fisher"), 1e-5)


def test_one_of_several_distributions_is_chosen():
    parts, into, encode, decode = _vae(lambda m, v: (Normal(m, (v / 2).exp()), Normal(m * 0, 1 + m * 0)))
    x = torch.rand(4, 1, 3, 4)
    exact = lambda x: tuple(t.double() for t in parts(x.float()))  # noqa: E731
    found = pb.score(pb.Model(into, encode=encode, decode=decode, outputs=(0,)), x, metric="stochastic", quiet=True)
    spectra_agree(found.spectrum, eigenvalues(exact, decode, x, "stochastic"), 1e-5)
    with pytest.raises(ValueError, match=r"expected tensors as outputs \(0, 1\), found Normal, Normal"):
        pb.score(pb.Model(into, encode=encode, decode=decode, outputs=(0, 1)), x, quiet=True)


def test_one_tensor_is_a_code():
    _, into, encode, decode = _vae(lambda m, v: m)
    model = pb.Model(into, encode=encode, decode=decode)
    x = torch.rand(3, 1, 3, 4)
    assert pb.score(model, x, metric="mean", quiet=True).spectrum.shape == (3, 3)
    assert "a code without a variance" in str(model)
    with pytest.raises(ValueError, match="metric stochastic: expected mean or output"):
        pb.score(model, x, metric="stochastic", quiet=True)


@pytest.mark.parametrize(
    "give",
    [
        lambda y: {"reconstruction": y},
        lambda y: (y, y + 1),
        lambda y: Bag(sample=y),
        lambda y: Normal(y, 1),
        lambda y: y.flatten(1),
        lambda y: Bag(anything=y),
    ],
)
def test_what_decoders_give(give):
    _, into, encode, decode = _vae(lambda m, v: (m, v))
    x = torch.rand(3, 1, 3, 4)
    plain = pb.score(pb.Model(into, encode=encode, decode=decode), x, metric="output", quiet=True)
    other = pb.score(pb.Model(into, encode=encode, decode=lambda z: give(decode(z))), x, metric="output", quiet=True)
    assert torch.allclose(plain.spectrum, other.spectrum)


@pytest.mark.parametrize(
    ("turn", "fits"),
    [
        (lambda y: y.permute(0, 2, 3, 1), False),
        (lambda y: y.transpose(2, 3), False),
        (lambda y: y.flatten(2), False),
        (lambda y: y[:, :1], False),
        (lambda y: y.flatten(1), True),
        (lambda y: y[:, None], True),
    ],
)
def test_axes_of_decoders(turn, fits):
    torch.manual_seed(0)
    into, back = torch.nn.Linear(36, 3), torch.nn.Linear(3, 36)
    encode, x = (lambda x: into(x.flatten(1))), torch.rand(3, 2, 3, 6)
    plain = pb.Model(into, encode=encode, decode=lambda z: back(z).view(-1, 2, 3, 6))
    model = pb.Model(into, encode=encode, decode=lambda z: turn(back(z).view(-1, 2, 3, 6)))
    if fits:
        expected, found = (pb.score(m, x, metric="output", quiet=True).spectrum for m in (plain, model))
        assert torch.equal(expected, found)
        return
    with pytest.raises(ValueError, match=r"decode: expected \[B, 2, 3, 6\] or \[B, 36\], found \[\d, "):
        pb.score(model, x, metric="output", quiet=True)


class _Drawn(torch.nn.Module):
    """Takes vectors, and gives pictures."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.into, self.back = torch.nn.Linear(36, 3), torch.nn.Linear(3, 36)

    def encode(self, x):
        mu = self.into(x)
        return mu, mu.tanh()

    def decode(self, z):
        return self.back(z).view(-1, 1, 6, 6)


def test_pictures_of_vectors_are_flattened(tmp_path, command):
    numpy = pytest.importorskip("numpy")
    model, x = _Drawn(), torch.rand(4, 36)
    numpy.save(tmp_path / "x.npy", x.numpy())
    torch.jit.trace_module(model, {"encode": x, "decode": torch.rand(4, 3)}).save(tmp_path / "vae.pt")
    command("score", "-m", "vae.pt", "-d", "x.npy", "-o", "s.h5", "--metric", "output")
    found = pb.score(model, x, metric="output", quiet=True).spectrum
    jacobian = model.back.weight.double() @ model.into.weight.double()
    expected = torch.linalg.svdvals(jacobian).square()[:3]
    assert (found - expected).abs().max() < 1e-6 * expected[0]
    assert (pb.open(tmp_path / "s.h5").spectrum - expected).abs().max() < 1e-6 * expected[0]


def test_another_range_of_pixels():
    parts, into, encode, decode = _vae(lambda m, v: (m, v))
    x = torch.rand(4, 1, 3, 4)
    model = pb.Model(into, encode=encode, decode=decode, input_range=(-1, 1))
    found = pb.score(model, x, metric="output", quiet=True)
    seen = lambda x: tuple(t.double() for t in parts((2 * x - 1).float()))  # noqa: E731
    spectra_agree(found.spectrum, eigenvalues(seen, lambda z: (decode(z.float()).double() + 1) / 2, x, "output"), 1e-5)


def test_an_encoder_without_a_gradient_is_refused(conv, images):
    frozen = torch.no_grad()(conv.encode)
    with pytest.raises(ValueError, match="expected a code with a gradient"):
        pb.score(pb.Model(conv, encode=frozen), images, metric="mean", quiet=True)
