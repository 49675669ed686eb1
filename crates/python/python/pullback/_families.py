"""Where a model has its encoder and its decoder: the libraries that people use, and code of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from ._outputs import Ask


@dataclasses.dataclass(frozen=True)
class Family:
    """How the models of a library are asked."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    #: In words, for print(model).
    encode_words: str
    decode_words: str
    input_range: tuple[float, float] = (0.0, 1.0)
    #: What the library says of its encoder's second output.
    posterior: str | None = None
    notes: tuple[str, ...] = ()
    #: Whether the two are parts of a model that does not say that they are all of it: that the decoder takes a code is tried.
    parts: bool = False


def unwrapped(vae: Any) -> tuple[Any, list[str]]:
    """The module inside wrappers that are not differentiated by vmap or that spread it over devices, and what was taken off."""
    notes = []
    while True:
        if isinstance(inner := getattr(vae, "_orig_mod", None), torch.nn.Module):
            notes.append("torch.compile: the module that it compiles is asked, uncompiled")
        elif isinstance(vae, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            inner = vae.module
            notes.append(f"{type(vae).__name__}: the module inside it is asked")
        else:
            return vae, notes
        vae = inner


def uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function inside torch.compile's."""
    return getattr(function, "_torchdynamo_orig_callable", function)


def _is_of(library: str, vae: Any, method: str) -> bool:
    """Whether a model has a method from a class of a library; what is only built on its bases has a method of its own."""
    return any(base.__module__.split(".")[0] == library and method in vars(base) for base in type(vae).__mro__)


def family_of(vae: Any, name: str, whole: bool = True) -> Family:
    """How `vae` is asked; `whole` if the caller says nothing of it. Raises Ask where it has nothing that could be."""
    if type(vae).__module__.split(".")[0] == "pythae":
        return Family(vae.encoder, vae.decoder, "pythae's model.encoder(x)", "model.decoder(z)")
    if _is_of("diffusers", vae, "encode"):
        factor = getattr(getattr(vae, "config", None), "scaling_factor", None)
        notes = (
            ()
            if factor is None
            else (f"codes are as encode gives them: not multiplied by scaling_factor = {factor:g}",)
        )
        return Family(vae.encode, vae.decode, "diffusers' encode(x)", "decode(z)", (-1.0, 1.0), None, notes)
    if _is_of("monai", vae, "encode_forward"):
        return Family(
            vae.encode_forward,
            vae.decode_forward,
            "MONAI's encode_forward(x)",
            "decode_forward(z)",
            posterior="logvar",
        )
    if _is_of("monai", vae, "encode") and any(base.__name__ == "AutoencoderKL" for base in type(vae).__mro__):
        if not hasattr(vae, "quantize"):
            return Family(
                vae.encode, vae.decode, "MONAI's encode(x), which gives mu and sigma", "decode(z)", posterior="std"
            )
    if callable(getattr(vae, "encode", None)) and callable(getattr(vae, "decode", None)):
        return Family(vae.encode, vae.decode, f"{type(vae).__name__}.encode(x)", f"{type(vae).__name__}.decode(z)")
    if callable(getattr(vae, "encoder", None)) and callable(getattr(vae, "decoder", None)):
        if whole and (others := _in_neither(vae)):
            raise Ask(
                f"{name}: expected an encoder and a decoder that hold all parameters, found {', '.join(others)} in neither (pb.Model(model, encode=lambda x: ..., decode=lambda z: ...) says where they belong, encode=model.encoder that they do not)"
            )
        own = type(vae).__name__
        return Family(vae.encoder, vae.decoder, f"{own}.encoder(x)", f"{own}.decoder(z)", parts=whole)
    inside = []
    if isinstance(vae, torch.nn.Module):
        pairs = (("encode", "decode"), ("encoder", "decoder"))
        inside = [
            n
            for n, m in vae.named_modules()
            if n and any(callable(getattr(m, e, None)) and callable(getattr(m, d, None)) for e, d in pairs)
        ]
    hint = f"pb.Model(model.{inside[0]}), or " if inside else ""
    raise Ask(
        f"{name}: expected methods encode(x) and decode(z), found none in {type(vae).__name__} ({hint}pb.Model(model, encode=lambda x: ..., decode=lambda z: ...))"
    )


def _in_neither(vae: Any) -> list[str]:
    """Names of parts of a model whose parameters neither its encoder nor its decoder holds."""
    if not isinstance(vae, torch.nn.Module):
        return []
    parts = [part for part in (vae.encoder, vae.decoder) if isinstance(part, torch.nn.Module)]
    if len(parts) < 2:
        return []
    held = {id(parameter) for part in parts for parameter in part.parameters()}
    others = [key.split(".")[0] for key, parameter in vae.named_parameters() if id(parameter) not in held]
    return list(dict.fromkeys(others))
