"""What a model or a judge is, as a hash: unfinished results go on only with the same."""

from __future__ import annotations

import dis
import enum
import functools
import hashlib
import inspect
import re
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

_VALUES = (
    *(type(None), bool, int, float, complex, str, bytes, type(...), slice, range),
    *(np.generic, torch.dtype, torch.device, torch.Size),
)
# What these define is told by its name.
_LIBRARIES = {"torch", "numpy", "builtins", "math", "functools", "itertools", "operator", "collections"}
# What modules keep for themselves, and what training gives to them.
_BOOKKEEPING = {*vars(torch.nn.Module()), "_compiled_call_impl", "_trainer", "_fabric"}
_TRAINING = (torch.optim.Optimizer, torch.utils.data.Dataset, torch.utils.data.DataLoader)


class _Plain:
    """An instance has its attributes and nothing else, as its size tells."""


class Identity:
    """A hash of weights, and of functions and objects as far as they can be read."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        #: False once there was something that nothing tells from others of its kind.
        self.told = True
        self._has_weights = False
        # Whether a tensor is a weight; one that is a module's plain attribute may be what a pass has left there.
        self._takes_tensors = True
        self._seen: dict[int, int] = {}

    def put(self, text: str | bytes | memoryview) -> None:
        """Adds words, or anything in their place."""
        self._hash.update(text.encode() if isinstance(text, str) else text)

    def asked(self, thing: Any) -> None:
        """Adds what is asked: a function, or an object with its methods."""
        self._has_weights = False
        self.add(thing)
        # What an object's methods read besides its attributes is not seen.
        self.told &= self._has_weights or isinstance(thing, (types.FunctionType, types.BuiltinFunctionType))

    def module(self, module: torch.nn.Module) -> None:
        """Adds names, types, shapes and values of a module's tensors, and the class and the plain attributes of each module in it."""
        before, self._takes_tensors = self._takes_tensors, True
        self._has_weights = True
        parts = list(module.named_modules())
        for _, part in parts:
            self._seen.setdefault(id(part), len(self._seen))
        kinds: set[Any] = {type(part) for _, part in parts}
        left = {name for kind in kinds for name in _assigned(kind)}
        tensors = dict(module.state_dict(keep_vars=True))
        for key, tensor in (*module.named_parameters(), *module.named_buffers()):
            # Buffers that a file of weights does not hold.
            if key not in tensors and key.rpartition(".")[2] not in left:
                tensors[key] = tensor
        for key, tensor in tensors.items():
            if isinstance(tensor, Tensor):
                self._tensor(key, tensor)
        for name, part in parts:
            self.put(f"{name} {type(part).__module__}.{type(part).__qualname__} ")
            if isinstance(part, torch.jit.ScriptModule):
                self._script(part)
                continue
            for key in sorted(vars(part).keys() - _BOOKKEEPING - left):
                self._attribute(key, vars(part)[key])
        self._takes_tensors = before

    def _attribute(self, key: str, value: Any) -> None:
        """Adds a plain attribute of a module; nothing where it is empty yet, or where it cannot be told: a model that keeps a logger
        goes on, too."""
        if value is None or isinstance(value, _TRAINING) or (isinstance(value, (list, tuple, dict, set)) and not value):
            return
        part = Identity()
        part._seen, part._takes_tensors = dict(self._seen), False
        try:
            part.add(value)
        except RecursionError:
            return
        if part.told:
            self.put(f"{key} {part.hexdigest()} ")

    def _script(self, part: Any) -> None:
        """Adds the code of a ScriptModule's own methods, its constants, and the attributes that it reads."""
        self.put(f"{part.original_name} ")
        for name in sorted(part._c._method_names()):
            code, constants = part._c._get_method(name).code_with_constants
            # Classes that have had the same name in this process are counted.
            self.put(re.sub(r"___torch_mangle_\d+\.", "", code))
            for key in sorted(constants):
                self._tensor(key, constants[key])
            left = {*_BOOKKEEPING, *re.findall(r"\.(\w+) = ", code)}
            for key in sorted({*re.findall(r"\.(\w+)", code)} - left):
                if part._c.hasattr(key):
                    self._attribute(key, part._c.getattr(key))

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def add(self, thing: Any) -> None:
        """Adds a value and all that it holds."""
        if not self.told:
            return
        kind = type(thing)
        self.put(f"{kind.__module__}.{kind.__qualname__} ")
        if isinstance(thing, _VALUES):
            return self.put(f"{thing!r} ")
        if id(thing) in self._seen:
            return self.put(f"{self._seen[id(thing)]} ")
        self._seen[id(thing)] = len(self._seen)
        if isinstance(thing, torch.nn.Module):
            self.module(thing)
        elif isinstance(thing, Tensor):
            self._has_weights = True
            if not self._takes_tensors:
                self.told = False
                return
            self._tensor("", thing)
        elif kind is np.ndarray and thing.dtype.kind in "biufc":
            self._has_weights = True
            self.put(f"{thing.dtype} {thing.shape} ".encode() + thing.tobytes())
        elif kind in (list, tuple):
            self._all(thing)
        elif kind is dict:
            self._all([part for item in thing.items() for part in item])
        elif kind in (set, frozenset) and all(isinstance(part, _VALUES) for part in thing):
            self._all(sorted(thing, key=repr))
        elif isinstance(thing, enum.Enum):
            self.put(f"{thing.name} ")
        elif kind is functools.partial:
            self._all([thing.func, thing.args, thing.keywords])
        elif name := _name(thing):
            self.put(f"{name} ")
        elif isinstance(thing, types.FunctionType):
            self._function(thing)
        elif isinstance(thing, types.MethodType):
            self._method(thing)
        elif _is_plain(thing):
            self._all([part for item in vars(thing).items() for part in item])
        else:
            self.told = False

    def _all(self, things: Any) -> None:
        self.put(f"{len(things)} ")
        for thing in things:
            self.add(thing)

    def _tensor(self, key: str, tensor: Tensor) -> None:
        self.put(f"{key} {tensor.dtype} {tuple(tensor.shape)}")
        try:
            self.put(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        except (RuntimeError, TypeError, NotImplementedError):
            self.told = False

    def _method(self, method: types.MethodType) -> None:
        self.add(method.__self__)
        function: Any = method.__func__
        name = getattr(function, "__name__", "")
        # As of a model itself the class tells what its methods do.
        if getattr(type(method.__self__), name, None) is function:
            self.put(f"{name} ")
        else:
            self.add(function)

    def _function(self, function: types.FunctionType) -> None:
        self.put(f"{function.__qualname__} ")
        self._all([function.__defaults__, function.__kwdefaults__, vars(function)])
        for cell in function.__closure__ or ():
            try:
                self.add(cell.cell_contents)
            except ValueError:  # Not filled yet.
                self.told = False
        for code in _codes(function.__code__):
            self.put(code.co_code)
            self.put(repr((code.co_names, code.co_freevars)))
            for constant in code.co_consts:
                if isinstance(constant, frozenset):
                    self._all(sorted(constant, key=repr))
                elif not isinstance(constant, types.CodeType):
                    self.add(constant)
            read = {(i.opname, i.argval) for i in dis.get_instructions(code)}
            for name in sorted({name for op, name in read if "GLOBAL" in op or op == "LOAD_NAME"}):
                if name in function.__globals__:
                    self.add(function.__globals__[name])
            # What it imports when it is called is not here yet.
            self.told &= all(name.split(".")[0] in _LIBRARIES for op, name in read if op == "IMPORT_NAME")


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


@functools.lru_cache(maxsize=1024)
def _assigned(kind: Any) -> frozenset[str]:
    """Names of the attributes that methods of a class assign, beside those that make an object: what a pass has left there tells nothing of
    the model."""
    names: set[str] = set()
    for base in kind.__mro__:
        if base in (torch.nn.Module, object):
            continue
        for name, method in vars(base).items():
            function = inspect.unwrap(getattr(method, "__func__", method))
            if not isinstance(function, types.FunctionType) or name.startswith(("__init__", "__setstate__", "set_")):
                continue
            for code in _codes(function.__code__):
                names |= {i.argval for i in dis.get_instructions(code) if i.opname == "STORE_ATTR"}
    return frozenset(names)


def _is_plain(thing: Any) -> bool:
    """Whether an object's attributes are all that it is."""
    kind = type(thing)
    slots = any(vars(base).get("__slots__") for base in kind.__mro__)
    return (
        isinstance(getattr(thing, "__dict__", None), dict) and not slots and kind.__basicsize__ <= _Plain.__basicsize__
    )


def _name(thing: Any) -> str | None:
    """The name of a module, class or function of a library, which tells what it is; None of anything else."""
    if isinstance(thing, types.ModuleType):
        name = thing.__name__
    elif isinstance(thing, types.BuiltinFunctionType):
        owner = thing.__self__
        if not isinstance(owner, (type, types.ModuleType, type(None))):
            return None
        name = f"{thing.__module__ or getattr(owner, '__module__', '')}.{thing.__qualname__}"
    elif isinstance(thing, type):
        name = f"{thing.__module__}.{thing.__qualname__}"
        if issubclass(thing, torch.nn.Module):
            return name
    elif isinstance(thing, types.FunctionType) and thing.__closure__ is None:
        name = f"{thing.__module__}.{thing.__qualname__}"
    else:
        return None
    return name if name.split(".")[0] in _LIBRARIES else None
