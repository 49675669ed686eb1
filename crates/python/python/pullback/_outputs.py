"""What encoders and decoders give, read: which tensor is the mean, which the scale, and which scale it is."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from torch.nn import Module, Sequential

SCALES = ("logvar", "logstd", "std", "var")

# Names that people give to what an encoder returns, the surest first.
_MEANS = (
    "mean",
    "mu",
    "loc",
    "z_mean",
    "z_mu",
    "latent_mean",
    "mean_z",
    "mu_z",
    "means",
    "mus",
    "embedding",
    "latents",
    "latent",
    "code",
    "z",
)
_PATTERNS = (
    (
        "logvar",
        r"(log|ln)_?(var|variance|cov|covariance|(sigma|scale|std|stddev|stdev|sd|sig)_?(2|sq|squared?)(?![a-z\d]))",
    ),
    ("logstd", r"(log|ln)_?(std|sigma|scale|stdev|(sd|sig)(?![a-z]))"),
    ("std", r"^(z_|latent_)?(std|sigma|scale|stddev|stdev|sd)(_z|s)?$"),
    ("var", r"^(z_|latent_)?(var|variance|sigma_?(2|sq)|cov|covariance)(_z)?$"),
)
# 1 / sigma^2 or its logarithm, which is no scale of SCALES.
_PRECISION = re.compile(r"(^|_)(log_?|ln_?)?(prec|precision|tau)(_|$)")
# What a name says beside that it is a mean's or a scale's: "prior" of prior_logvar.
_MEAN = re.compile(r"(mean|mu|loc)s?(?![a-z])")
_SCALE = re.compile(
    r"(log_?|ln_?)?(variance|var|covariance|cov|stddev|stdev|std|sigma|scale|sd|sig)(_?(2|sq|squared?))?s?(?![a-z])"
)
# Whose names are not the posterior's: those of a prior, and of the image's distribution given a code.
_ANOTHERS = re.compile(r"^(prior|p|pz|px|x|recon|dec|decoder)(_|$)|(^|_)prior$")
_IMAGES = (
    "sample",
    "reconstruction",
    "recon_x",
    "recon",
    "x_hat",
    "x_recon",
    "reconstructions",
    "mean",
    "output",
    "out",
    "x",
)
_DRESS = re.compile(
    r"^(self_)?(fc|linear|layer|head|conv|to|get|compute|dense|quant)_|_(layer|head|fc|linear|conv|net)$"
)
# What is done to a tensor that stays what it is: its values are limited, or its axes are others.
_SAME = {
    *("clamp", "clamp_", "clip", "flatten", "view", "view_as", "reshape", "reshape_as", "squeeze", "unsqueeze"),
    *("contiguous", "clone", "float", "double", "to", "type_as", "transpose", "permute", "movedim"),
}
# Names of what is no scale, beside those of means.
_OTHERS = re.compile(
    r"sampl|reparam|recon|quantized|^(z|zs|h|hidden|x|x_hat|features?|skips?|loss|kl|kld|indices|eps|noise)$|^z_q$"
)


class Ask(ValueError):
    """What only the caller can tell: the message names the argument."""

    # Raised as it is, not wrapped in words of the engine.
    _of_pullback = True


def told(error: BaseException) -> str:
    """`RuntimeError: mat1 and mat2 shapes cannot be multiplied`: an exception on one line."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


@dataclasses.dataclass(frozen=True)
class Reading:
    """How an encoder's output is read."""

    #: From an output to the mean and, where there is one, the scale.
    pick: Callable[[Any], tuple[Tensor, Tensor | None]]
    #: What the scale is: one of SCALES; None where there is no scale.
    scale: str | None
    #: In words, for print(model).
    words: str


def _undressed(name: str) -> str:
    plain = name.lower()
    while (undressed := _DRESS.sub("", plain)) != plain:
        plain = undressed
    return plain


def scale_of(name: str) -> str | None:
    """Which scale a name means; None where it means none."""
    plain = _undressed(name)
    return next((scale for scale, pattern in _PATTERNS if re.search(pattern, plain)), None)


def _owner(name: str, what: re.Pattern[str]) -> str:
    """Whose mean or scale a name says it is: "prior" of `prior_logvar`, "" of `logvar` and of names like `embedding`."""
    plain = _undressed(name)
    return what.sub("", plain, count=1).strip("_") if what.search(plain) else ""


def is_mean(name: str) -> bool:
    return _undressed(name) in _MEANS[:10]


def is_no_scale(name: str) -> bool:
    """Whether a name is known to be another thing's than a scale's."""
    plain = _undressed(name)
    return scale_of(name) is None and (plain in _MEANS or _OTHERS.search(plain) is not None)


def reading_of(
    output: Any, model: str, encode: Callable[..., Any], posterior: str | None, outputs: Sequence[int | str] | None
) -> Reading:
    """Decides how outputs like `output` of `encode` are read; `posterior` and `outputs` are what the caller said.

    Raises Ask where it cannot be told."""
    if outputs is not None:
        return _chosen(output, model, encode, posterior, outputs)
    if isinstance(output, Tensor):
        return Reading(lambda o: (o, None), None, "one tensor, a code without a variance")
    if isinstance(output, Distribution):
        return _distribution(output, model)
    fields = _fields(output)
    if fields is not None:
        return _named(output, fields, model, posterior)
    if isinstance(output, (tuple, list)):
        return _sequence(output, model, encode, posterior)
    raise Ask(
        f"{model}: encode: expected tensors, a torch.distributions.Normal, or an object or dict that holds them, found {_kind(output)} (encode=lambda x: ... says what to take)"
    )


def image_of(output: Any, model: str) -> tuple[Callable[[Any], Tensor], str]:
    """From a decoder's output to the image, and how, in words."""
    if isinstance(output, Tensor):
        return (lambda o: o), "the tensor"
    if isinstance(output, Distribution):
        return (lambda o: o.mean), f"the mean of {_kind(output)}"
    fields = _fields(output)
    if fields is not None:
        name = next((n for n in _IMAGES if isinstance(fields.get(n), Tensor)), None)
        if name is None and len(tensors := [n for n, v in fields.items() if isinstance(v, Tensor)]) == 1:
            name = tensors[0]
        if name is not None:
            return _getter(output, name), f".{name}"
        nested = next((n for n in _IMAGES if isinstance(fields.get(n), Distribution)), None)
        if nested is not None:
            get = _getter(output, nested)
            return (lambda o: get(o).mean), f"the mean of .{nested}"
        raise Ask(
            f"{model}: decode: expected one tensor, or one of {', '.join(_IMAGES[:6])}, found {', '.join(fields) or 'nothing'} (decode=lambda z: ... says what to take)"
        )
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], (Tensor, Distribution)):
        get, words = image_of(output[0], model)
        return (lambda o: get(o[0])), f"{words}, the first of {len(output)}"
    raise Ask(f"{model}: decode: expected one tensor, found {_kind(output)} (decode=lambda z: ... says what to take)")


def log_variance(scale: Tensor, kind: str) -> Tensor:
    """ln sigma^2 of a scale of a kind."""
    match kind:
        case "logvar":
            return scale
        case "logstd":
            return 2 * scale
        case "std":
            return 2 * scale.log()
        case _:
            return scale.log()


def _kind(value: Any) -> str:
    return type(value).__name__


def _fields(output: Any) -> Mapping[str, Any] | None:
    """The named parts of an output; None where it has none."""
    if isinstance(output, Mapping):
        return {str(k): v for k, v in output.items()}
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return dict(zip(output._fields, output, strict=True))
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return {f.name: getattr(output, f.name) for f in dataclasses.fields(output)}
    if isinstance(output, (tuple, list, str, bytes, int, float, type(None))):
        return None
    own = {n: v for n, v in getattr(output, "__dict__", {}).items() if not n.startswith("_")}
    return own or None


def _getter(output: Any, name: str) -> Callable[[Any], Any]:
    if isinstance(output, Mapping):
        return lambda o: o[name]
    return lambda o: getattr(o, name)


def _within(get: Callable[[Any], Any], pick: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda o: pick(get(o))


def _distribution(output: Distribution, model: str) -> Reading:
    if isinstance(output, Normal):
        return Reading(lambda o: (o.loc, o.scale), "std", "loc and scale of a Normal")
    if isinstance(output, Independent) and isinstance(output.base_dist, Normal):
        return Reading(lambda o: (o.base_dist.loc, o.base_dist.scale), "std", "loc and scale of an Independent Normal")
    raise Ask(
        f"{model}: encode: expected a Normal, the latents independent of each other, found {_kind(output)} (encode=lambda x: (mu, sigma) of it, with posterior='std')"
    )


def _named(output: Any, fields: Mapping[str, Any], model: str, posterior: str | None) -> Reading:
    for inner in ("latent_dist", "posterior", "q_z_x", "qz_x", "dist", "distribution"):
        value = fields.get(inner)
        if value is not None and not isinstance(value, Tensor):
            get = _getter(output, inner)
            nested = reading_of(value, model, lambda: None, posterior, None)
            return Reading(_within(get, nested.pick), nested.scale, f"{nested.words} of .{inner}")
    tensors = {n: v for n, v in fields.items() if isinstance(v, Tensor)}
    drawn = [n for n, v in fields.items() if isinstance(v, Distribution)]
    distributions = [n for n in drawn if not _ANOTHERS.search(n.lower())]
    # Beside a distribution tensors are features or samples, unless they say what they are.
    if distributions and not (any(map(is_mean, tensors)) and any(map(scale_of, tensors))):
        if len(distributions) > 1:
            raise Ask(
                f"{model}: encode: expected one distribution, found {', '.join(distributions)} (outputs=({distributions[0]!r},) says which is the code's)"
            )
        get, read = _getter(output, distributions[0]), _distribution(fields[distributions[0]], model)
        return Reading(_within(get, read.pick), read.scale, f"{read.words} of .{distributions[0]}")
    if "log_concentration" in tensors:
        raise Ask(
            f"{model}: encode: expected a Gaussian posterior, found a log_concentration: a distribution on the sphere has no mu and sigma"
        )
    mean = next((n for n in _MEANS if n in tensors), None)
    if mean is None and len(tensors) == 1 and not drawn:
        mean = next(iter(tensors))
    if mean is None:
        raise Ask(
            f"{model}: encode: expected a mean among its outputs, found {', '.join(fields) or 'nothing'} (outputs=('mean', 'scale') names mean and scale)"
        )
    # A distribution keeps several of them; the logarithm is the exact one.
    owners = {n: _owner(n, _SCALE) for n in reversed(list(tensors)) if n != mean and scale_of(n)}
    own = _owner(mean, _MEAN)
    same = [n for n, owner in owners.items() if owner == own]
    likely = same or [n for n, owner in owners.items() if not _ANOTHERS.search(owner)]
    named = {scale_of(n): n for n in likely}
    if unsure := [n for n in tensors if not named and _PRECISION.search(_undressed(n))]:
        raise _precise(model, unsure[0])
    if not same and len(named) < len(likely) and posterior not in named:
        raise Ask(
            f"{model}: encode: expected one scale for {mean}, found {', '.join(reversed(likely))} (outputs=({mean!r}, {likely[-1]!r}) says which)"
        )
    scales = {kind: n for kind, n in named.items() if _fits(tensors[n], tensors[mean])}
    scale = posterior if posterior in scales else next((s for s in SCALES if s in scales), None)
    if getattr(output, "deterministic", False) or not named:
        get = _getter(output, mean)
        return Reading(lambda o: (get(o), None), None, f".{mean}, a code without a variance")
    if scale is None:
        found = ", ".join(f"{n} {list(tensors[n].shape)}" for n in named.values())
        raise Ask(
            f"{model}: encode: expected a scale for {mean} {list(tensors[mean].shape)}, found {found} (outputs=({mean!r},) says that {mean} alone is a code)"
        )
    name = scales[scale]
    get_mean, get_scale = _getter(output, mean), _getter(output, name)
    kind, _ = _judged(tensors[name], name, model, posterior)
    return Reading(lambda o: (get_mean(o), get_scale(o)), kind, f".{mean} and .{name}, read as {kind}")


def _fits(scale: Tensor, mean: Tensor) -> bool:
    """Whether a scale is one of each latent, or one that some or all of them share."""
    try:
        return torch.broadcast_shapes(scale.shape, mean.shape) == mean.shape
    except RuntimeError:
        return False


def _sequence(output: Sequence[Any], model: str, encode: Callable[..., Any], posterior: str | None) -> Reading:
    if len(output) == 1:
        inner = reading_of(output[0], model, encode, posterior, None)
        return Reading(lambda o: inner.pick(o[0]), inner.scale, inner.words)
    tensors = [i for i, v in enumerate(output) if isinstance(v, Tensor)]
    distributions = [i for i, v in enumerate(output) if isinstance(v, Distribution)]
    names = _returned(encode, len(output))
    if len(distributions) == 1:
        at = distributions[0]
        inner = _distribution(output[at], model)
        return Reading(lambda o: inner.pick(o[at]), inner.scale, f"{inner.words}, output {at} of {len(output)}")
    if distributions:
        found = ", ".join(filter(None, names or [])) or ", ".join(map(_kind, output))
        raise Ask(
            f"{model}: encode: expected one distribution, found {len(distributions)} ({found}) (outputs=({distributions[-1]},) says which is the code's)"
        )
    mean = scale = None
    code = 0
    if names:
        named = [i for i in tensors if is_mean(names[i])]
        scales = [i for i in tensors if scale_of(names[i])]
        # A sample z beside its mean is not the mean.
        better = [i for i in named if names[i].lower() not in ("z", "latent", "code")] or named
        code = better[0] if len(better) == 1 else 0
        if len(better) == 1 and len(scales) == 1:
            mean, scale = better[0], scales[0]
    # What the caller says of the second output goes before what the names say.
    other = names is not None and posterior is None and (is_no_scale(names[-1]) or scale_of(names[0]) is not None)
    if mean is None and len(output) == 2 and len(tensors) == 2 and output[0].shape == output[1].shape and not other:
        mean, scale = 0, 1
    if mean is None or scale is None:
        found = ", ".join(f"{list(v.shape)}" if isinstance(v, Tensor) else _kind(v) for v in output)
        if names and all(names):
            found = f"{', '.join(names)}: {found}"
        if not tensors:
            raise Ask(
                f"{model}: encode: expected mu and a scale, or mu alone, found {len(output)} outputs ({found}) (encode=lambda x: ... says what to take)"
            )
        raise Ask(
            f"{model}: encode: expected mu and a scale, or mu alone, found {len(output)} outputs ({found}) (outputs=(0, 1) says which are mean and scale, outputs=({code},) that {f'output {code}' if code else 'the first'} is a code)"
        )
    kind, why = _judged(output[scale], names[scale] if names else None, model, posterior)
    m, s = mean, scale
    return Reading(lambda o: (o[m], o[s]), kind, f"outputs {m} and {s}, read as mu and {kind} ({why})")


def _precise(model: str, name: str) -> Ask:
    return Ask(
        f"{model}: encode: expected a standard deviation, a variance or the logarithm of one, found {name}, a precision (encode=lambda x: ... gives mu and ln sigma^2, with posterior='logvar')"
    )


def _judged(scale: Tensor, name: str | None, model: str, posterior: str | None) -> tuple[str, str]:
    """Which scale a second output is, and why."""
    if posterior is not None:
        return posterior, "as you said"
    told = scale_of(name) if name else None
    negative = bool((scale.detach() < 0).any())
    if name and told is None and _PRECISION.search(_undressed(name)):
        raise _precise(model, name)
    if told and not (negative and told in ("std", "var")):
        return told, f"the code calls it {name}"
    if told is None and negative:
        return "logvar", "it has negative values; posterior='logstd' if it is ln sigma"
    seen = f"called {name}, with negative values" if told else "without a negative value"
    raise Ask(
        f"{model}: encode: expected a second output that is known to be a variance of some kind, found one {seen} (posterior='std', 'var', 'logvar' or 'logstd' says what it is)"
    )


def _chosen(
    output: Any, model: str, encode: Callable[..., Any], posterior: str | None, outputs: Sequence[int | str]
) -> Reading:
    if not 1 <= len(outputs) <= 2 or len(set(outputs)) != len(outputs):
        raise Ask(
            f"outputs: expected positions or names of mean and scale, such as (0, 1), or of the mean alone, found {outputs!r}"
        )

    def get(o: Any, key: int | str) -> Any:
        return o[key] if isinstance(key, int) or isinstance(o, Mapping) else getattr(o, key)

    try:
        parts = [get(output, key) for key in outputs]
    except (IndexError, KeyError, AttributeError, TypeError):
        raise Ask(
            f"{model}: encode: expected outputs {tuple(outputs)!r}, found {_kind(output)} without one of them"
        ) from None
    if len(outputs) == 1:
        key = outputs[0]
        if isinstance(parts[0], Distribution):
            inner = _distribution(parts[0], model)
            return Reading(lambda o: inner.pick(get(o, key)), inner.scale, f"{inner.words}, output {key!r}")
        return Reading(lambda o: (get(o, key), None), None, f"output {key!r}, a code without a variance")
    mean, scale = outputs
    if others := [_kind(part) for part in parts if not isinstance(part, Tensor)]:
        raise Ask(f"{model}: encode: expected tensors as outputs {tuple(outputs)!r}, found {', '.join(others)}")
    name = scale if isinstance(scale, str) else None
    if isinstance(scale, int) and isinstance(output, (tuple, list)):
        names = getattr(output, "_fields", None) or _returned(encode, len(output))
        name = names[scale] if names else None
    kind, why = _judged(parts[1], name, model, posterior)
    return Reading(
        lambda o: (get(o, mean), get(o, scale)), kind, f"outputs {mean!r} and {scale!r}, read as mu and {kind} ({why})"
    )


def _returned(function: Callable[..., Any], count: int, depth: int = 5) -> list[str] | None:
    """The names of what a function or a module returns, where its source says them and all of its returns agree."""
    if isinstance(function, Sequential) and len(function) > 0:
        return _returned(function[-1], count, depth)
    method = function.forward if isinstance(function, Module) else function
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(method))))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    found: set[tuple[str, ...]] = set()
    body = tree.body[0]
    if not isinstance(body, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return None
    for node in ast.walk(body):
        if not isinstance(node, ast.Return) or node.value is None:
            continue
        if isinstance(node.value, (ast.Tuple, ast.List)) and len(node.value.elts) == count:
            found.add(tuple(_name(e) for e in node.value.elts))
            continue
        # `return self.encoder(x)`: what that returns.
        called = _called(node.value, body, getattr(method, "__self__", None))
        names = _returned(called, count, depth - 1) if callable(called) and depth > 0 else None
        if names is None:
            return None
        found.add(tuple(names))
    return list(found.pop()) if len(found) == 1 else None


def _called(node: ast.expr, method: ast.FunctionDef | ast.AsyncFunctionDef, owner: Any) -> Any:
    """What a call of an attribute of `self` calls; None for any other expression."""
    if owner is None or not method.args.args or not isinstance(node, ast.Call):
        return None
    path, at = [], node.func
    while isinstance(at, ast.Attribute):
        path.append(at.attr)
        at = at.value
    if not isinstance(at, ast.Name) or at.id != method.args.args[0].arg:
        return None
    for name in reversed(path):
        owner = getattr(owner, name, None)
    return owner if path else None


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Call(func=ast.Attribute(value=value, attr=name), args=arguments) if name in _SAME:
            # log_sigma.clamp(-5, 2), torch.clamp(log_sigma, -5, 2) are still of that name.
            of_library = isinstance(value, ast.Name) and value.id in ("torch", "F")
            return _name(arguments[0] if of_library and arguments else value)
        case ast.Call(func=ast.Attribute(attr=name)) if hasattr(Tensor, name):
            # kl.mean(), h.mean(1): what is done to it is no name of it.
            return ""
        case ast.Call(func=function):
            return _name(function)
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            return name
        case ast.Attribute(value=value, attr=name):
            # torch.exp(logvar).
            return "" if isinstance(value, ast.Name) and value.id in ("torch", "F") else name
        case _:
            return ""
