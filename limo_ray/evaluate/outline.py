"""What an evaluation would do, for a dry run: models, benchmarks, attempts, protocols."""

from limo_ray.evaluate.config import EvaluateConfig
from limo_ray.evaluate.contamination import training_data
from limo_ray.evaluate.items import read_items
from limo_ray.evaluate.models import evaluated_models
from limo_ray.storage.store import Store


def outline(config: EvaluateConfig, device: str) -> str:
    """The text; nothing is sampled, and no endpoint is asked."""
    lines = []
    for model in evaluated_models(config, device):
        engine = model.engine
        if model.at_endpoint:
            where = f"at {engine.url}, {engine.max_num_seqs} requests at once"
        else:
            where = f"on {engine.device}, {engine.dtype}, {engine.max_num_seqs} sequences"
        lines.append(f"model       {model.name or 'the only one'} {where}")
    total = 0
    for benchmark in config.chosen():
        name, protocol = config.protocol(benchmark)
        sampling = protocol.sampling
        how = (
            f"{protocol.attempts} attempt(s) each, temperature {sampling.temperature:g}, "
            f"{sampling.max_tokens:,} tokens ({name})"
        )
        try:
            items = read_items(
                benchmark, config.folder, config.seed, Store(config.store), config.mirror
            )
        except ValueError as error:  # a dry run is also for a machine that has no data
            lines.append(f"benchmark   {benchmark.name}: {how}; not read: {error}")
            continue
        total += len(items.problems) * protocol.attempts
        lines.append(
            f"benchmark   {items.name}: {len(items.problems)} items of {items.origin} "
            f"(checksum {items.checksum}), {how}"
        )
        lines += [f"            {note}" for note in items.notes]
    lines.append(f"attempts    {total:,} per model, less those in the log")
    data = training_data(config.training_data, config.model)
    lines.append(f"trained on  {data or 'not known: no contamination check'}")
    lines.append(f"output      {Store(config.store).shown}/evaluations/{config.name}")
    return "\n".join(lines)
