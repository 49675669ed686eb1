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


def family_of(vae: Any, name: str) -> Family:
    """How `vae` is asked. Raises Ask where it has nothing that could be."""
    library = {base.__module__.split(".")[0] for base in type(vae).__mro__}
    if "pythae" in library:
        return Family(vae.encoder, vae.decoder, "pythae's model.encoder(x)", "model.decoder(z)")
    if "diffusers" in library and hasattr(vae, "encode"):
        factor = getattr(getattr(vae, "config", None), "scaling_factor", None)
        notes = (
            ()
            if factor is None
            else (f"codes are as encode gives them: not multiplied by scaling_factor = {factor:g}",)
        )
        return Family(vae.encode, vae.decode, "diffusers' encode(x)", "decode(z)", (-1.0, 1.0), None, notes)
    if "monai" in library:
        if hasattr(vae, "encode_forward"):
            return Family(
                vae.encode_forward,
                vae.decode_forward,
                "MONAI's encode_forward(x)",
                "decode_forward(z)",
                posterior="logvar",
            )
        if hasattr(vae, "quantize") or not hasattr(vae, "encode"):
            pass
        elif any(base.__name__ == "AutoencoderKL" for base in type(vae).__mro__):
            return Family(
                vae.encode, vae.decode, "MONAI's encode(x), which gives mu and sigma", "decode(z)", posterior="std"
            )
    if callable(getattr(vae, "encode", None)) and callable(getattr(vae, "decode", None)):
        return Family(vae.encode, vae.decode, f"{type(vae).__name__}.encode(x)", f"{type(vae).__name__}.decode(z)")
    if callable(getattr(vae, "encoder", None)) and callable(getattr(vae, "decoder", None)):
        return Family(vae.encoder, vae.decoder, f"{type(vae).__name__}.encoder(x)", f"{type(vae).__name__}.decoder(z)")
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
