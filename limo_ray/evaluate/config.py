"""The schema of conf/evaluate: all settings of an evaluation."""

import re
from dataclasses import dataclass, field

from limo_ray.core.checks import check_at_least, check_between, check_folder_name
from limo_ray.core.prompts import SYSTEM
from limo_ray.engines.api_config import ApiConfig
from limo_ray.engines.base import EngineConfig, SamplingConfig
from limo_ray.problems import inputs
from limo_ray.problems.benchmarks import BENCHMARKS
from limo_ray.problems.sources import SourceConfig
from limo_ray.runs.hub import PublishConfig
from limo_ray.sampling.config import SamplerConfig
from limo_ray.storage.model_files import split_revision
from limo_ray.storage.pinned_files import GITHUB


@dataclass(kw_only=True, slots=True)
class ProtocolConfig:
    attempts: int = 1
    """Attempts at each item, each with a seed of its own; greedy decoding needs one."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How they are sampled."""
    pass_at: list[int] = field(default_factory=list)
    """k of pass@k and majority@k beside pass@1, at most `attempts`; empty for `attempts` alone."""

    def check(self) -> None:
        check_between("attempts", self.attempts, 1, 4096)
        for index, k in enumerate(self.pass_at):
            if not 1 <= k <= self.attempts:
                raise ValueError(
                    f"pass_at[{index}]: {k} must be between 1 and attempts ({self.attempts})"
                )

    def ks(self) -> list[int]:
        """The k beside 1."""
        return sorted({*self.pass_at, self.attempts} - {1})


@dataclass(kw_only=True, slots=True)
class BenchmarkConfig:
    name: str = "???"
    """One of limo_ray.problems.benchmarks.BENCHMARKS, or any name together with `source`."""
    protocol: str = ""
    """Which of `protocols`; may be empty where there is one."""
    source: SourceConfig | None = None
    """Items of your own: a file, a data set of the hub or kinds of reasoning_gym."""
    revision: str = ""
    """Branch, tag or commit of the data set on the hub; the one that is known when empty."""
    checksum: str = ""
    """Of these items in results.json; other items are an error."""
    items: int = 0
    """Items that there must be; 0 for the number that is known of the benchmark, if any."""
    by: list[str] = field(default_factory=list)
    """Columns (of metadata) by which scores are broken down; empty for the benchmark's own."""

    def check(self) -> None:
        if not self.name or re.search(r"[/|\s]", self.name):
            raise ValueError(f"name: {self.name!r} must be a word")
        if self.source is None and self.name not in BENCHMARKS:
            raise ValueError(
                f"name: {self.name!r} is none of {', '.join(BENCHMARKS)}, and has no source"
            )
        if self.source is not None:
            try:
                self.source.check()
            except ValueError as error:
                raise ValueError(f"source.{error}") from None


@dataclass(kw_only=True, slots=True)
class ClientConfig(ApiConfig):
    concurrency: int = 64
    """Requests under way at once."""

    def check(self) -> None:
        ApiConfig.check(self)
        check_at_least("concurrency", self.concurrency, 1)


@dataclass(kw_only=True, slots=True)
class EvaluateConfig:
    name: str = "evaluate"
    """Of the folder of results: <store>/evaluations/<name>."""
    store: str = "store"
    """Folder or URI (s3://, gs://) of results and attempt log."""
    seed: int = 0
    """Of generated items and shuffled options; engines have their own."""
    model: str = ""
    """The model: folder, hub id (owner/name or owner/name@revision), or its name at `endpoint`."""
    against: list[str] = field(default_factory=list)
    """Models that it is compared with on the same items, or addresses of endpoints
    (http://host/v1, or http://host/v1#name)."""
    endpoint: str = ""
    """Address of an OpenAI-compatible server that `model` is asked at, such as
    http://localhost:8000/v1; empty for an engine of our own."""
    system: str = SYSTEM
    """System prompt of every attempt."""
    benchmarks: list[BenchmarkConfig] = field(default_factory=list)
    """What the model is asked."""
    folder: str = ""
    """Folder with local copies, <name>.jsonl, that go before the hub."""
    mirror: str = GITHUB
    """Where benchmarks that are files of public repositories come from: <mirror>/<owner>/<name>/
    <commit>/<path>."""
    only: list[str] = field(default_factory=list)
    """Names of the benchmarks to take; empty for all."""
    protocols: dict[str, ProtocolConfig] = field(default_factory=dict)
    """How it is asked, by name."""
    training_data: str = ""
    """Examples that the model was trained on, looked for in the benchmarks: a run's folder, file or
    hub data set; found in the model's card when empty."""
    engine: EngineConfig = field(default_factory=lambda: EngineConfig(model="${model}"))
    """Our own engine; each model gets one like it."""
    client: ClientConfig = field(default_factory=ClientConfig)
    """How endpoints are asked."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    publish: PublishConfig = field(default_factory=PublishConfig)

    def check(self) -> None:
        check_folder_name(self.name)
        if not self.model and not self.endpoint:
            raise ValueError("model: none given (a folder or hub id, or endpoint=http://...)")
        if self.endpoint and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(f"endpoint: {self.endpoint!r} must start with http:// or https://")
        if not self.protocols:
            raise ValueError("protocols: none given")
        names = [benchmark.name for benchmark in self.benchmarks]
        if not names:
            raise ValueError("benchmarks: none given")
        if len(set(names)) < len(names):
            raise ValueError(f"benchmarks: names must differ, got {', '.join(names)}")
        for index, name in enumerate(self.only):
            if name not in names:
                raise ValueError(f"only[{index}]: {name!r} is none of {', '.join(names)}")
        for index, benchmark in enumerate(self.benchmarks):
            known = ", ".join(self.protocols)
            if benchmark.protocol not in self.protocols and (
                benchmark.protocol or len(self.protocols) > 1
            ):
                raise ValueError(
                    f"benchmarks[{index}].protocol: {benchmark.protocol!r} is none of {known}"
                )
        for key, protocol in self.protocols.items():
            if protocol.sampling.max_tokens > self.engine.max_model_len and not self.endpoint:
                raise ValueError(
                    f"protocols.{key}.sampling.max_tokens: {protocol.sampling.max_tokens} is more "
                    f"than engine.max_model_len ({self.engine.max_model_len})"
                )

    def inputs(self) -> list[inputs.Input]:
        """What it needs from elsewhere, but for models at endpoints."""
        found = []
        for each in self.chosen():
            if each.source is None:
                where = (self.folder, self.store, self.mirror, each.revision)
                found.append(inputs.of_benchmark(each.name, *where))
            else:
                found.append(inputs.of_source(each.source, "benchmark"))
        if self.model and not self.endpoint:
            found.append(inputs.of_model(*split_revision(self.model, self.engine.revision)))
        others = [name for name in self.against if not name.startswith(("http://", "https://"))]
        return found + [inputs.of_model(*split_revision(name)) for name in others]

    def chosen(self) -> list[BenchmarkConfig]:
        """The benchmarks to take, in their order."""
        return [known for known in self.benchmarks if not self.only or known.name in self.only]

    def protocol(self, benchmark: BenchmarkConfig) -> tuple[str, ProtocolConfig]:
        """Name and protocol of a benchmark."""
        name = benchmark.protocol or next(iter(self.protocols))
        return name, self.protocols[name]
