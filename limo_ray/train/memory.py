"""What a training needs in memory, before anything is loaded: per worker and per node.

Parameters are counted on a model without storage (torch's meta device); what autograd keeps of one
layer is found by running that layer on tensors without storage. The rest is arithmetic over what
DeepSpeed holds at each ZeRO stage, checked against measured peaks in tests/train/test_memory.py.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limo_ray.core.text import first_line
from limo_ray.storage import model_files
from limo_ray.train import adapters, attention, model
from limo_ray.train.config import TrainConfig

GIB = 2**30
SIZE = {"bfloat16": 2, "float32": 4}
RESERVED = 0.08  # of a GPU: CUDA context, NCCL buffers, fragments of the allocator
SUB_GROUP = 1e9  # elements: DeepSpeed's sub_group_size
PROCESS = 0.5 * GIB  # host memory of a worker before it has a model: torch, transformers, Ray
LIBRARIES = 60 * 2**20  # what DeepSpeed's engine and communication take beside, measured


@dataclass(kw_only=True, slots=True)
class Shape:
    """What the plan has to know of a model."""

    parameters: int
    trainable: int
    quantized: int
    """Parameters that are kept in 4 bits."""
    largest: int
    """Parameters of the largest part that ZeRO-3 gathers at once."""
    layers: int
    hidden: int
    vocabulary: int
    kept: float
    """Bytes that autograd keeps of one layer, per token of a row."""


@dataclass(kw_only=True, slots=True)
class MemoryEstimate:
    """Bytes by what they are for, on each worker's device and on each node's host, and a word."""

    device: dict[str, float]
    host: dict[str, float]
    device_room: float
    """0: not judged."""
    host_room: float
    on_cpu: bool
    advice: list[str]

    @property
    def needed(self) -> float:
        return sum(self.device.values())

    @property
    def fits(self) -> bool:
        fits_device = not self.device_room or self.needed <= self.device_room
        return fits_device and (not self.host_room or sum(self.host.values()) <= self.host_room)

    def text(self) -> str:
        where = "each worker" if self.on_cpu else "each GPU"
        lines = [f"memory of {where}", *_rows(self.device, self.device_room)]
        lines += ["memory of each node's host", *_rows(self.host, self.host_room)]
        if not self.fits:
            parts = self.device if self.needed > self.device_room > 0 else self.host
            most = max(parts, key=parts.__getitem__)
            what = f"because {most} alone take {parts[most] / GIB:,.1f} GiB"
            lines.append(f"does not fit, {what}; try {' or '.join(self.advice)}")
        return "\n".join(lines)


def _rows(parts: dict[str, float], room: float) -> list[str]:
    total = sum(parts.values())
    shown = [(name, size) for name, size in parts.items() if size >= 2**20]
    width = max(len(name) for name, _ in [*shown, ("together", 0.0)])
    lines = [f"  {name:<{width}}  {size / GIB:8.2f} GiB" for name, size in shown]
    of = f" of {room / GIB:,.0f}" if room else ""
    return [*lines, f"  {'together':<{width}}  {total / GIB:8.2f} GiB{of}"]


def estimate(config: TrainConfig, device: str, tokens: int, passes: int = 2) -> MemoryEstimate:
    """The plan of a config whose largest forward pass has `tokens` tokens.

    With one of the `passes` in each optimizer step no gradients wait while a pass is at its top.

    Raises ValueError when the model's config cannot be had.
    """
    return estimate_for_shape(shape_of(config), config, device, tokens, passes)


def shape_of(config: TrainConfig) -> Shape:
    """The model's shape from its config alone."""
    from transformers import AutoConfig, AutoModelForCausalLM

    name = model_files.resolve(config.model, weights=False)
    try:
        model_config = AutoConfig.from_pretrained(name, revision=config.revision or None)
    except OSError as error:
        why = first_line(error) + model_files.revision_hint(config.revision)
        raise ValueError(f"model: {config.model!r}: {why}") from None
    model.refuse(model_config, config)
    dtype = model.DTYPES[config.compute.precision]
    implementation = attention.register()
    with torch.device("meta"):
        lm = AutoModelForCausalLM.from_config(
            model_config, dtype=dtype, attn_implementation=implementation
        )
        whole = model.wrap(lm, config)
    found = list(whole.parameters())
    layers = _layers(lm)
    frozen = [p for m in layers.modules() if isinstance(m, nn.Linear) for p in m.parameters()
              if not p.requires_grad]  # fmt: skip
    in_4_bits = config.lora is not None and config.lora.bits == 4
    gathered = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    gathered += [p.numel() for p in found]
    return Shape(
        parameters=sum(p.numel() for p in found),
        trainable=sum(p.numel() for p in found if p.requires_grad),
        quantized=sum(p.numel() for p in frozen) if in_4_bits else 0,
        largest=max(gathered),
        layers=len(layers),
        hidden=model_config.hidden_size,
        vocabulary=model_config.vocab_size,
        kept=kept_of_layer(model_config, dtype),
    )


def _layers(lm: Any) -> nn.ModuleList:
    lists = [m for m in lm.modules() if isinstance(m, nn.ModuleList)]
    return max(lists, key=len)


def kept_of_layer(model_config: Any, dtype: torch.dtype, tokens: int = 256) -> float:
    """Bytes a token that autograd keeps of one decoder layer, counted without computing it."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import AutoModel

    sizes = []
    for depth in (1, 2):  # the difference is one layer: neither embedding nor last norm
        settings = model_config.to_dict() | {"num_hidden_layers": depth}
        if settings.get("layer_types"):
            settings["layer_types"] = settings["layer_types"][:depth]
        one = type(model_config).from_dict(settings)
        kept: dict[int, int] = {}
        with FakeTensorMode(allow_non_fake_inputs=True):
            lm = AutoModel.from_config(
                one, dtype=dtype, attn_implementation=attention.register()
            ).train()
            own = {_key(p) for p in lm.parameters()}
            ids = torch.zeros((1, tokens), dtype=torch.long)

            def keep(x: Tensor, kept: dict[int, int] = kept, own: set[int] = own) -> Tensor:
                if _key(x) not in own:
                    kept[_key(x)] = x.untyped_storage().nbytes()
                return x

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
                out = lm(input_ids=ids, position_ids=ids, use_cache=False)
            del out
        sizes.append(sum(kept.values()))
    return (sizes[1] - sizes[0]) / tokens


def _key(x: Tensor) -> int:
    return x.untyped_storage()._cdata


def estimate_for_shape(
    shape: Shape, config: TrainConfig, device: str, tokens: int, passes: int = 2
) -> MemoryEstimate:
    """The plan for a model's shape and `tokens` in one forward pass of a group of workers."""
    zero, compute, workers = config.zero, config.compute, config.workers
    size = SIZE[compute.precision]
    count = workers.fewest or workers.count  # the fewer, the more each has to hold
    spread = {stage: count if zero.stage >= stage else 1 for stage in (1, 2, 3)}
    # Parameters: spread at stage 3, where what is in use is put together for a moment.
    parameters = (shape.parameters - shape.quantized) * size / spread[3]
    parameters += shape.quantized * adapters.BYTES_4BIT
    gathered = 0.0
    if zero.stage == 3:
        gathered = (shape.largest + min(zero.bucket, shape.parameters)) * size
    gradients = shape.trainable * size / spread[2]
    bucket = min(zero.bucket, shape.trainable) * size if count > 1 else 0.0
    wide = 2 if zero.states == "bfloat16" else 4
    master = 0 if compute.precision == "float32" and zero.stage == 0 else wide
    if zero.states == "bfloat16":
        master = 0
    states = shape.trainable * (2 * wide + master) / spread[1]
    offloaded = _offloaded(shape, config) / count if zero.offload_optimizer else 0.0
    # The optimizer step: gradients in the states' precision. On CPU there is a temporary of that
    # size; the fused step of a GPU has none, and stage 3 takes a sub-group at a time.
    stepping = shape.trainable * wide / spread[1]
    if device == "cpu":
        stepping *= 2
    elif zero.stage == 3:
        stepping = min(stepping, SUB_GROUP * wide)
    part = tokens / compute.sequence_parallel
    edge = part * shape.hidden * size
    kept = shape.layers * (edge if compute.recompute else part * shape.kept)
    working = part * shape.kept if compute.recompute else 0.0
    learned = part
    logits = learned * shape.vocabulary * (size + 8)
    if compute.cross_entropy == "chunked":
        chunk = min(compute.chunk, learned)
        head = shape.vocabulary * shape.hidden * (4 if learned > chunk else size)
        logits = chunk * shape.vocabulary * (size + 8) + (0 if config.lora else head)
    on_host = {"optimizer states": 0.0, "parameters": 0.0, "activations": 0.0}
    if zero.offload_optimizer:
        on_host["optimizer states"] = offloaded
        states = 0.0
        stepping = stepping / 2 if device == "cpu" else 0.0  # DeepSpeed's own Adam has no temporary
        gradients = gradients if zero.stage == 1 else 0.0
    if zero.offload_parameters:
        on_host["parameters"], parameters = parameters, 0.0
    if compute.offload_activations:
        on_host["activations"], kept = kept, edge * 2
    # On CPU the heap keeps what was freed, and a pass finds no use for most of it: other sizes.
    heap = gradients + bucket + gathered + stepping
    needs = {"parameters": parameters, "optimizer states": states}
    if zero.stage == 3:  # these stay, once made
        needs |= {"gathered parameters": gathered, "buckets": bucket}
        bucket = 0.0
    if zero.stage == 3 or passes > 1:
        needs["gradients"] = gradients
        gradients = 0.0
    # The highest of three moments: a pass at its top, a pass at its end, the optimizer's step.
    top = {"activations": kept + working, "logits": logits}
    end = {"gradients": gradients, "buckets": bucket}
    step = {"gradients": gradients, "optimizer step": stepping}
    for name, value in max((top, end, step), key=lambda moment: sum(moment.values())).items():
        needs[name] = needs.get(name, 0.0) + value
    on_cpu = device == "cpu"
    each = min(workers.per_node, count)
    host = {name: value * each for name, value in on_host.items()}
    host["processes"] = PROCESS * each
    host["weights put together at the end"] = shape.parameters * size
    if on_cpu:
        needs["DeepSpeed itself"] = LIBRARIES
        needs["kept by the heap"] = heap
        host["workers"] = sum(needs.values()) * each
    else:
        needs["reserved"] = RESERVED * workers.gpu_gib * GIB
    return MemoryEstimate(
        device=needs, host=host, device_room=0 if on_cpu else workers.gpu_gib * GIB,
        host_room=workers.host_gib * GIB, on_cpu=on_cpu, advice=_advice(config, needs, host),
    )  # fmt: skip


def _offloaded(shape: Shape, config: TrainConfig) -> float:
    """Bytes that an offloaded optimizer has in the host memory of all workers together.

    After DeepSpeed 0.19 (runtime/zero): master weights, two means and a gradient in the states'
    precision. Stage 3 has the part's gradients once more, as they are added up, in the precision of
    the parameters; stages 1 and 2 have these and a copy of the part's parameters.
    """
    wide = 2 if config.zero.states == "bfloat16" else 4
    copies = 1 if config.zero.stage == 3 else 2
    each = 4 * wide + copies * SIZE[config.compute.precision]
    return float(shape.trainable * each)


def _advice(config: TrainConfig, needs: dict[str, float], host: dict[str, float]) -> list[str]:
    """What would make it smaller, the most helpful first."""
    zero, compute, workers = config.zero, config.compute, config.workers
    tips: list[tuple[float, str]] = []
    states = needs["optimizer states"] + needs.get("gradients", 0.0)
    if zero.stage < 3:
        tips.append((needs["parameters"] + states, "zero.stage=3"))
    if not zero.offload_optimizer and zero.stage:
        tips.append((states, "zero.offload_optimizer=true"))
    if not compute.recompute:
        tips.append((needs.get("activations", 0), "compute.recompute=true"))
    if compute.cross_entropy == "full":
        tips.append((needs.get("logits", 0), "compute.cross_entropy=chunked"))
    if compute.sequence_parallel < min(8, workers.count):
        share = needs.get("activations", 0) / 2
        wider = 2 * compute.sequence_parallel
        tips.append((share, f"compute.sequence_parallel={wider}"))
    if not config.lora:
        tips.append((states / 2, "lora={}"))
    spread = needs["parameters"] + states
    more = spread + host.get("optimizer states", 0.0)
    tips.append((more / 2, f"workers.count={2 * workers.count} on more nodes"))
    return [tip for _, tip in sorted(tips, key=lambda each: -each[0])[:3]]
