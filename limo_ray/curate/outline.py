"""What a curation would do, in lines, for --dry-run and the plan."""

import json

from limo_ray.curate.config import CurateConfig
from limo_ray.curate.difficulty import passes
from limo_ray.engines.base import EngineConfig
from limo_ray.sampling.stages import Stage
from limo_ray.storage.store import Store


def outline(config: CurateConfig, device: str) -> str:
    """What a run would do: stages, engines and resources, in lines. Starts nothing."""
    lines = ["sources"]
    lines += [f"  {source.label()}" for source in config.sources]
    gates = ["filters", *(["gold check"] if config.gold_check else [])]
    named = [*config.decontaminate.benchmarks, *(f.label() for f in config.decontaminate.files)]
    gates.append(f"decontamination ({', '.join(named) or 'against nothing'})")
    gates += ["exact dedup", *(["near-duplicates"] if config.near.drop else [])]
    lines.append("pool        " + ", ".join(gates))
    for pass_ in passes(config, device, identify=False):
        lines.append(f"engine {pass_.engine_name}: {_engine(pass_.engine)}")
        for stage in pass_.stages:
            rule, sampling = stage.rule, stage.sampling
            keep = f"keep {rule.keep_min} to {rule.keep_max} correct" if stage.gate else "chains"
            how = f"; temperature {sampling.temperature:g}, {sampling.max_tokens} tokens"
            if pass_.engine.kind == "published":
                how = ", as far as there are some"
            lines.append(f"  {stage.name}: {rule.budget} attempts, {keep}{how}")
            if api_cost := _most_dollars(pass_.engine, stage):
                lines.append(f"    at most ${api_cost:.4g} of completions for each problem")
    if cap := config.sampler.spend_cap:
        lines.append(f"spend cap   ${cap:,.2f}, what the log holds included")
    wanted, order = config.difficulty.stop_after_kept, config.difficulty.order
    lines.append(
        f"stop        after {wanted} kept per {config.difficulty.per}, {order} order" if wanted
        else "stop        when the whole pool is sampled"
    )  # fmt: skip
    for each in config.annotate:
        what = "chain" if each.of_chains else "proof" if each.kind == "final_answer" else "problem"
        lines.append(f"asked       {each.engine}: {each.name} ({each.kind}), about each {what}")
    gate = "verified correct" if config.chains.only_correct else "all complete"
    lines.append(f"chains      {gate}")
    lines.append(f"selection   {config.selection.method}, {config.selection.k} examples")
    lines.append(f"output      {Store(config.store).shown}/runs/{config.name}")
    return "\n".join(lines)


def _engine(engine: EngineConfig) -> str:
    if engine.kind == "published":
        return f"attempts of {engine.model}, published in {engine.published.label()}"
    if engine.kind == "api":
        return _api(engine)
    replicas = f"{engine.min_replicas} to {engine.max_replicas}"
    each = f"{engine.tensor_parallel * engine.pipeline_parallel} GPU(s)"
    if engine.device == "cpu":
        each = f"{engine.num_cpus:g} CPU(s)"
    if engine.bundles:
        each = f"bundles {json.dumps([dict(bundle) for bundle in engine.bundles])}"
    return (
        f"{engine.model} on {engine.device}, {engine.dtype}, {replicas} replica(s) of {each}, "
        f"{engine.max_num_seqs} sequences each"
    )


def _api(engine: EngineConfig) -> str:
    api = engine.api
    text = f"{engine.model} at {engine.url}, {engine.max_num_seqs} requests at once"
    if api.batch.requests:
        text += f" in batches of {api.batch.requests}"
    if api.paid:
        share = f", {api.batch.price_share:.0%} of it in batches" if api.batch.requests else ""
        text += (
            f"; ${api.input_price:g} per million prompt tokens and ${api.output_price:g} per "
            f"million completion tokens{share}"
        )
    return text


def _most_dollars(engine: EngineConfig, stage: Stage) -> float:
    """What a problem's completions of full length cost in a stage; 0 without prices."""
    return engine.api.dollars(0, stage.rule.budget * stage.sampling.max_tokens)
