"""A PyTorch VAE as the engine asks it."""

from __future__ import annotations

import copy
import dataclasses
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from ._families import Family, family_of, uncompiled, unwrapped
from ._identity import Identity
from ._memory import Memory
from ._outputs import SCALES, Ask, Reading, image_of, log_variance, reading_of, told


class Model:
    """A PyTorch VAE, ready for :func:`pullback.score` and :func:`pullback.attack`.

    Args:
        vae: An ``nn.Module`` with ``encode(x)`` and ``decode(z)``, a model of pythae, diffusers or MONAI, or any other object with these
            methods. Its training mode, hooks, ``requires_grad``, device and dtype are left as they are found; while it is asked it is in
            evaluation mode.
        encode: In place of its own: from images [B, ...] in ``input_range`` to what an encoder gives: mu [B, L] or [B, c, h, w] and a scale
            of the same shape, a ``torch.distributions.Normal``, a dict or object of these, or one tensor, a code.
        decode: In place of its own: from codes, shaped as ``encode`` gives them, to images [B, ...] or [B, D].
        posterior: What the encoder's second output is: "logvar" (ln sigma^2), "logstd" (ln sigma), "std" (sigma) or "var" (sigma^2). Where
            it is not given, names and values tell; where they do not, it is asked for.
        outputs: Positions or names of mean and scale among the encoder's outputs, such as ``(0, 1)``, or of the mean alone, ``(0,)``.
        input_range: What the model is given for pixels of 0 and 1; (0, 1), and (-1, 1) for diffusers' models, unless given.
        name: What result files and reports call the model; its class unless given.

    Raises:
        ValueError: Where the model has nothing to ask, or the arguments are not what they should be.

    ``print(model)`` says how the model is read.

    >>> import torch, pullback as pb
    >>> class Toy(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.fc = torch.nn.Linear(12, 4)
    ...         self.back = torch.nn.Linear(2, 12)
    ...     def encode(self, x):
    ...         mu, logvar = self.fc(x.flatten(1)).chunk(2, dim=1)
    ...         return mu, logvar
    ...     def decode(self, z):
    ...         return self.back(z).sigmoid().view(-1, 1, 3, 4)
    >>> print(pb.Model(Toy()))
    Toy
      encode: Toy.encode(x), read at its first call
      decode: Toy.decode(z), read at its first call
      pixels: 0 to 1
      on cpu, float32; in evaluation mode while it is asked
    """

    def __init__(
        self,
        vae: Any = None,
        *,
        encode: Callable[[Tensor], Any] | None = None,
        decode: Callable[[Tensor], Any] | None = None,
        posterior: str | None = None,
        outputs: Sequence[int | str] | None = None,
        input_range: tuple[float, float] | None = None,
        name: str | None = None,
    ) -> None:
        if vae is None and (encode is None or decode is None):
            raise Ask("pb.Model: expected a model, or encode= and decode=, found neither")
        if isinstance(vae, type):
            raise Ask(f"pb.Model: expected a model, found the class {vae.__name__} (make one: {vae.__name__}(...))")
        if posterior is not None and posterior not in SCALES:
            raise Ask(f"posterior: expected one of {', '.join(SCALES)}, found {posterior!r}")
        self.vae, self._notes = unwrapped(vae)
        own = type(self.vae).__name__ if vae is not None else str(getattr(encode, "__qualname__", "model"))
        self.name = name or own
        if any(map(is_lazy, self._tensors())):
            raise Ask(
                f"{self.name}: expected weights, found a lazy layer that has none yet (give the model a batch first)"
            )
        self._own = tuple(f and uncompiled(f) for f in (encode, decode))
        if self._own != (encode, decode):
            self._notes.append("torch.compile: the function that it compiles is asked, uncompiled")
        self.outputs = None if outputs is None else tuple(outputs)
        self._family = self._asked(self.vae)
        self.posterior = posterior or self._family.posterior
        self.posterior_of_library = posterior is None and self._family.posterior is not None
        self.input_range = _range(self._family.input_range if input_range is None else input_range)
        self._reading: Reading | None = None
        self._image: tuple[Callable[[Any], Tensor], str] | None = None
        self._encode, self._decode = (Memory(f"{self.name}: {part}") for part in ("encode", "decode"))
        self._copies: dict[torch.dtype, Any] = {}
        self._lock = threading.Lock()
        self._unlike()

    def _asked(self, vae: Any) -> Family:
        encode, decode = self._own
        if encode is not None and decode is not None:
            return Family(encode, decode, "encode= as given", "decode= as given")
        family = family_of(vae, self.name, encode is None and decode is None)
        if encode is None and decode is None:
            return family
        return Family(
            encode or family.encode,
            decode or family.decode,
            "encode= as given" if encode else family.encode_words,
            "decode= as given" if decode else family.decode_words,
            family.input_range,
            None if encode else family.posterior,
            family.notes,
        )

    @property
    def module(self) -> torch.nn.Module | None:
        """The module that is asked; None where functions alone were given."""
        return self.vae if isinstance(self.vae, torch.nn.Module) else None

    @property
    def device(self) -> torch.device:
        """Where the model lies: where its first parameter or buffer does, else the CPU."""
        return next((t.device for t in self._tensors()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Of its floating-point tensors; float32 where there is none."""
        return next((t.dtype for t in self._tensors() if t.is_floating_point()), torch.float32)

    def _tensors(self) -> Any:
        if self.module is None:
            return
        yield from self.module.parameters()
        yield from self.module.buffers()

    @property
    def sha256(self) -> str:
        """What the model is, in hex: of its weights and buffers, the classes and plain attributes of its modules, its functions and how it is
        read. An unfinished result goes on only with the same; where weights or functions cannot be read, with none."""
        seen = Identity()
        for part in (
            type(self.vae).__qualname__,
            self.posterior,
            self.outputs,
            self.input_range,
            self._family.encode_words,
            self._family.decode_words,
        ):
            seen.put(repr(part))
        if self.module is not None:
            seen.module(self.module)
        elif self.vae is not None:
            seen.asked(self.vae)
        for function in self._own:
            if function is not None:
                seen.asked(function)
        if not seen.told:
            seen.put(self._chance)
        return seen.hexdigest()

    def reader(self, double: bool) -> Reader:
        """What the engine calls, in float64 or float32. A model of another dtype is copied; the one that was given stays as it is."""
        dtype = torch.float64 if double else torch.float32
        others = {t.dtype for t in self._tensors() if t.dtype != _in(t, dtype)}
        if not others:
            return Reader(self, self._family, dtype, self.module)
        shown = ", ".join(str(o).removeprefix("torch.") for o in sorted(others, key=str))
        if any(self._own):
            wanted = "model.double()" if double else "model.float()"
            raise Ask(
                f"{self.name}: expected a model in {str(dtype).removeprefix('torch.')}, because encode= or decode= keeps its own, found {shown} ({wanted})"
            )
        with self._lock:
            if dtype not in self._copies:
                try:
                    twin = _converted(_copied(self.vae), dtype)
                except Exception as error:
                    raise Ask(
                        f"{self.name}: expected a model that can be copied, because it is in {shown}, found {told(error)}"
                    ) from error
                self._copies[dtype] = self._asked(twin), twin
            family, twin = self._copies[dtype]
            return Reader(self, family, dtype, twin if isinstance(twin, torch.nn.Module) else None)

    def _unlike(self) -> None:
        """From now on this model is another, where nothing tells what it is: what was begun is not gone on with."""
        self._chance = os.urandom(16)

    def _forget(self) -> None:
        """Copies are of the weights as they were."""
        self._copies.clear()

    def __str__(self) -> str:
        encode, decode = "read at its first call", "read at its first call"
        if self._reading is not None:
            encode = self._reading.words
        if self._image is not None:
            decode = f"read as {self._image[1]}"
        low, high = self.input_range
        lines = [
            self.name,
            f"  encode: {self._family.encode_words}, {encode}",
            f"  decode: {self._family.decode_words}, {decode}",
            f"  pixels: {low:g} to {high:g}",
            f"  on {self.device}, {str(self.dtype).removeprefix('torch.')}; in evaluation mode while it is asked",
        ]
        if self.dtype not in (torch.float32, torch.float64):
            lines.append("  a copy in float32 is asked: exact derivatives need it")
        lines += [f"  {note}" for note in (*self._family.notes, *self._notes)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<pullback.Model {self.name}>"


class Reader:
    """A model's two passes: images in [0, 1] to mu and ln sigma^2, codes to images in [0, 1]."""

    def __init__(self, model: Model, family: Family, dtype: torch.dtype, module: torch.nn.Module | None) -> None:
        self._model, self._family, self._dtype, self._module = model, family, dtype, module
        self._watched: list[str] = []
        self._code: tuple[int, ...] | None = None
        self._sample: tuple[int, ...] | None = None

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """[B, ...] to mu and ln sigma^2 or None, [B, L] each."""
        model = self._model
        low, high = model.input_range
        seen = x if (low, high) == (0.0, 1.0) else x * (high - low) + low
        output = model._encode.ask(self._family.encode, seen)
        if model._reading is None:
            reading = reading_of(output, model.name, self._family.encode, model.posterior, model.outputs)
            if model.posterior_of_library:
                reading = dataclasses.replace(
                    reading, words=reading.words.replace("as you said", "as the library says")
                )
            mean, scale = reading.pick(output)
            self._check("mu", mean, x)
            if self._family.parts and scale is None:
                self._try_decoder(mean)
            model._reading = reading
        mean, scale = model._reading.pick(output)
        self._check("mu", mean, x)
        self._ensure_whole("encode", mean, scale)
        mean = model._encode.kept(mean)
        if scale is not None:
            scale = model._encode.kept(scale)
            if scale.shape != mean.shape:
                scale = torch.broadcast_to(scale, mean.shape)
            scale = log_variance(scale, model._reading.scale or "logvar")
            scale = _like(scale.flatten(1), x)
        if torch.is_grad_enabled() and x.requires_grad and not mean.requires_grad:
            raise Ask(
                f"{model.name}: encode: expected a code with a gradient, found one without (torch.no_grad(), .detach() or .data inside?)"
            )
        self._code, self._sample = tuple(mean.shape[1:]), tuple(x.shape[1:])
        return _like(mean.flatten(1), x), scale

    def decode(self, z: Tensor) -> Tensor:
        """[B, L] to images [B, ...]."""
        model = self._model
        output = model._decode.ask(self._family.decode, z if self._code is None else z.reshape(-1, *self._code))
        if model._image is None:
            model._image = image_of(output, model.name)
        image = model._image[0](output)
        self._check("decode", image, z)
        self._ensure_whole("decode", image)
        image = model._decode.kept(image)
        low, high = model.input_range
        if self._sample is not None and image.shape[1:] != self._sample:
            _refuse_other_axes(model.name, image.shape, self._sample)
            image = image.reshape(-1, *self._sample)
        image = _like(image, z)
        return image if (low, high) == (0.0, 1.0) else (image - low) / (high - low)

    def _try_decoder(self, code: Tensor) -> None:
        """Refuses an encoder whose one tensor is no code: mu and a scale side by side, or features."""
        try:
            with torch.no_grad():
                self._family.decode(code[:1].detach().clone())
        except Exception as error:
            shape = [1, *code.shape[1:]]
            raise Ask(
                f"{self._model.name}: encode: expected a code that decoder takes, found one tensor {shape}, for which it raises {told(error)} (encode=lambda x: model.encoder(x).chunk(2, 1) if it holds mu and a scale)"
            ) from error

    def watch(self, layers: Sequence[str]) -> None:
        """Lets :meth:`features` give the outputs of the layers of these names, in this order."""
        name = self._model.name
        if self._module is None:
            raise Ask(
                f"layers: expected a model that is an nn.Module, whose layers have names, found {name}, which is none"
            )
        names = [key for key, _ in self._module.named_modules() if key]
        for layer in layers:
            if layer not in names:
                shown = ", ".join(names[:20]) + (f" or one of {len(names) - 20} more" if len(names) > 20 else "")
                raise Ask(f"{name}: layers: expected {shown or 'a model with layers'}, found {layer}")
        self._watched = list(layers)

    def features(self, x: Tensor) -> list[Tensor]:
        """The outputs of the watched layers, [B, ...] each, while x [B, ...] is encoded and its mean decoded; none where none is."""
        if not self._watched or self._module is None:
            return []
        if self._model._encode.writes is None or self._model._decode.writes is None:
            # More is asked before a first question.
            self.decode(self.encode(x)[0])
        seen: dict[str, list[Tensor]] = {layer: [] for layer in self._watched}
        here = threading.get_ident()

        def keeper(layer: str) -> Callable[..., None]:
            def keep(_module: Any, _inputs: Any, output: Any) -> None:
                # Another thread may ask the same module meanwhile.
                if threading.get_ident() != here:
                    return
                if not isinstance(output, Tensor) or output.ndim == 0 or output.shape[0] != x.shape[0]:
                    found = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
                    raise Ask(
                        f"{self._model.name}: {layer}: expected a layer that gives one tensor [B, ...], found {found}"
                    )
                seen[layer].append(output)

            return keep

        hooks: list[Any] = []
        try:
            for layer in self._watched:
                hooks.append(self._module.get_submodule(layer).register_forward_hook(keeper(layer)))
            self.decode(self.encode(x)[0])
        finally:
            for hook in hooks:
                hook.remove()
        silent = next((layer for layer, outputs in seen.items() if not outputs), None)
        if silent is not None:
            raise Ask(
                f"{self._model.name}: {silent}: expected a layer that encode or decode calls, found one that they do not"
            )
        return [output.to(x) for outputs in seen.values() for output in outputs]

    def _ensure_whole(self, what: str, *tensors: Tensor | None) -> None:
        """Refuses numbers of half precision: derivatives are rounded with them."""
        for tensor in tensors:
            if tensor is not None and tensor.dtype in (torch.float16, torch.bfloat16):
                wanted, found = (str(dtype).removeprefix("torch.") for dtype in (self._dtype, tensor.dtype))
                remedy = "" if self._dtype == torch.float64 else "; precision='f64' is not touched by autocast"
                raise Ask(
                    f"{self._model.name}: {what}: expected {wanted}, found {found} (torch.autocast or .half() inside?{remedy})"
                )

    def _check(self, what: str, tensor: Any, given: Tensor) -> None:
        if (
            not isinstance(tensor, Tensor)
            or tensor.ndim < 2
            or tensor.shape[0] != given.shape[0]
            or tensor.numel() == 0
        ):
            found = list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            name = self._model.name
            raise Ask(
                f"{name}: {'encode' if what == 'mu' else what}: expected a tensor [{given.shape[0]}, ...] for {given.shape[0]} sample(s), found {found}"
            )


def _refuse_other_axes(name: str, shape: Sequence[int], sample: Sequence[int]) -> None:
    """Refuses images of `shape` [B, ...] that are neither flat nor, but for axes of length 1, of the shape of a sample: as many values in
    another order (channels last) are another image. Where samples are flat, images are flattened."""
    size = torch.Size(sample).numel()
    flat = list(shape[1:]) == [size] or (len(sample) == 1 and torch.Size(shape[1:]).numel() == size)
    if flat or [n for n in shape[1:] if n != 1] == [n for n in sample if n != 1]:
        return
    raise Ask(
        f"{name}: decode: expected [B, {', '.join(map(str, sample))}] or [B, {size}], found {list(shape)} (decode=lambda z: ... says how its axes are turned)"
    )


def _like(tensor: Tensor, other: Tensor) -> Tensor:
    """In the dtype and on the device of another. Where it is, nothing is done: a trace would keep both of them for ever."""
    return tensor if (tensor.dtype, tensor.device) == (other.dtype, other.device) else tensor.to(other)


def _in(tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    """What a tensor is in a model of a floating-point dtype: complex numbers have parts of it."""
    if tensor.is_complex():
        return dtype.to_complex()
    return dtype if tensor.is_floating_point() else tensor.dtype


def _copied(vae: Any) -> Any:
    """A copy of a model. Tensors with a history, which modules keep of a pass (`self.kl = ...`, `weight_norm`), are copied without it."""
    memo: dict[int, Any] = {}
    seen: set[int] = set()

    def note(value: Any, depth: int) -> None:
        if isinstance(value, Tensor):
            if not value.is_leaf:
                memo[id(value)] = value.detach().clone()
        elif depth > 0 and id(value) not in seen and not isinstance(value, (torch.nn.Module, type)):
            seen.add(id(value))
            inner: Iterable[Any] = ()
            if isinstance(value, Mapping):
                inner = value.values()
            elif isinstance(value, (list, tuple)):
                inner = value
            elif not callable(value):
                # A distribution, a dataclass.
                inner = getattr(value, "__dict__", {}).values()
            for part in list(inner):
                note(part, depth - 1)

    for part in vae.modules() if isinstance(vae, torch.nn.Module) else ():
        for name, value in vars(part).items():
            if name not in ("_modules", "_parameters"):
                note(value, 4)
    return copy.deepcopy(vae, memo)


def _converted(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """A module of one's own in another dtype, in evaluation mode, its parameters without a gradient."""
    if any(t.is_complex() for t in (*module.parameters(), *module.buffers())):
        # to() makes real numbers of complex ones, without their imaginary part.
        module._apply(lambda t: t.to(_in(t, dtype)))
    else:
        # As the module's class may have its own: Lightning's notes the dtype.
        module.to(dtype)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    for sub in module.modules():
        # A frozen file's module has no such mode.
        if getattr(sub, "training", False):
            sub.training = False
    return module


def _range(pair: Sequence[float]) -> tuple[float, float]:
    try:
        low, high = (float(v) for v in pair)
    except (TypeError, ValueError):
        low = high = 0.0
    if low == high or not all(map(_finite, (low, high))):
        raise Ask(f"input_range: expected two different numbers (LOW, HIGH), such as (-1, 1), found {pair!r}")
    return low, high


def _finite(value: float) -> bool:
    return value - value == 0.0
