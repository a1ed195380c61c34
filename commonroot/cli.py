"""The `commonroot` command: the one place where all stages meet, each imported when it runs."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from commonroot.artifact import Artifact, load_artifact
from commonroot.config import Section, Tables, load_tables, parse_section
from commonroot.errors import CommonrootError, UsageError

__all__ = ["app", "main"]

STAGES = ("gather", "clean", "pretrain", "shards", "federate", "compare", "release")
TABLES = (*STAGES, "ablate")
PARTS = {
    "run": STAGES,
    "ingest": ("gather", "clean"),
    "graft": ("shards", "federate"),
    **{stage: (stage,) for stage in STAGES},
}

app = typer.Typer(
    help="Grow one root on the public web; graft it where private data lives.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Config = Annotated[Path, typer.Option(help="TOML file, one table a stage.")]
Run = Annotated[Path, typer.Option(help="Folder of the run's artifacts.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override: table.key=value.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DEMO, RUN_DIR = Path("configs/demo.toml"), Path("runs/demo")


def main() -> None:
    """Run the command; an expected error is one line and an exit code (see commonroot.errors)."""
    try:
        app(standalone_mode=False)
    except CommonrootError as error:
        print(f"commonroot: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(130)
    except OSError as error:
        print(f"commonroot: {error.filename or 'i/o'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if not _is_click_error(error):
            raise
        error.show()  # type: ignore[attr-defined]
        sys.exit(2)


def _is_click_error(error: Exception) -> bool:
    import click

    return isinstance(error, click.ClickException)


def _leads() -> bool:
    """Whether this process speaks for all that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def _refuse_company(parts: tuple[str, ...]) -> None:
    """Only one stage is made for the several processes that torchrun starts."""
    if parts != ("pretrain",) and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("several processes: torchrun is for `commonroot pretrain` alone")


def _stage_command(name: str, parts: tuple[str, ...], text: str) -> None:
    def command(
        config: Config = DEMO, run: Run = RUN_DIR, set_: Set = None, json_: Json = False
    ) -> None:
        _refuse_company(parts)
        tables = load_tables(config, set_ or [], TABLES)
        results = [_run_stage(stage, tables, run) for stage in parts]
        if _leads():
            _print(results, run, json_)

    app.command(name, help=text)(command)


for _name, _text in {
    "run": "All stages, from public pages to a published federated checkpoint.",
    "ingest": "gather and clean.",
    "gather": "Public web -> web archive (1-web).",
    "clean": "Web archive -> corpus (2-corpus).",
    "pretrain": "Corpus -> base model (3-base).",
    "graft": "shards and federate.",
    "shards": "Private folders or a table -> clients (4-shards).",
    "federate": "Base and clients -> federated checkpoint (5-federated).",
    "compare": "Federated beside centralised beside local-only (6-comparison).",
    "release": "The checkpoint to publish, with card and lineage (7-release).",
}.items():
    _stage_command(_name, PARTS[_name], _text)


@app.command()
def report(run: Run = RUN_DIR) -> None:
    """Join what the stages wrote into one HTML file."""
    from commonroot.report import join

    if not run.is_dir():
        raise UsageError(f"no run in {run}: make run first")
    print(join(run))


@app.command()
def verify(path: Annotated[Path, typer.Argument(help="A run or a release folder.")]) -> None:
    """Recheck every hash, back to the URLs."""
    from commonroot.verify import verify as check

    for line in check(path):
        print(line)


@app.command()
def trace(
    run: Run = RUN_DIR,
    tokens: Annotated[str, typer.Option(help="first:last, as pretraining counts them.")] = "",
    url: Annotated[str, typer.Option(help="Address of a document.")] = "",
    words: Annotated[str, typer.Option(help="Words that stand in it.")] = "",
    split: Annotated[str, typer.Option(help="train or heldout.")] = "train",
) -> None:
    """From a place of the corpus back to URL, archive record, licence and decisions."""
    from pretrain.trace import parse_range
    from pretrain.trace import trace as find

    if not (tokens or url or words):
        raise UsageError("say what to trace: --tokens first:last, --url or --words")
    for row in find(run, parse_range(tokens) if tokens else None, url, words, split):
        print(json.dumps(row, ensure_ascii=False))


@app.command()
def generate(
    prompt: str,
    run: Run = RUN_DIR,
    tokens: Annotated[int, typer.Option(min=1, help="At most this many.")] = 80,
    seed: int = 0,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.8,
) -> None:
    """Continue a prompt with the released model."""
    from pretrain.evaluate import sample
    from pretrain.model import load_model, load_tokenizer

    folder = load_artifact(run / "7-release", "release").path
    print(sample(load_model(folder), load_tokenizer(folder), prompt, tokens, seed, temperature))


@app.command()
def publish(
    repo: Annotated[str, typer.Option(help="name/model on the hub.")],
    run: Run = RUN_DIR,
    push: Annotated[bool, typer.Option(help="Really upload; else list what would go.")] = False,
) -> None:
    """Upload the release, or list what would go."""
    from federate.release.publish import publish as upload

    for line in upload(load_artifact(run / "7-release", "release"), repo, push):
        print(line)


@app.command()
def plan(config: Config = DEMO, run: Run = RUN_DIR, set_: Set = None) -> None:
    """Estimate time, memory, disk and bytes before anything runs."""
    from federate.estimate import estimate

    tables = load_tables(config, set_ or [], TABLES)
    sections = {stage: _section(stage, tables) for stage in STAGES}
    for line in estimate(sections, run):
        print(line)


@app.command()
def ablate(
    config: Config = DEMO, run: Run = RUN_DIR, set_: Set = None, json_: Json = False
) -> None:
    """What each step of cleaning is worth: bits per byte with it left out (3-ablation)."""
    from commonroot.report import join
    from pretrain.ablation import run as measure

    tables = load_tables(config, set_ or [], TABLES)
    own, clean, pretrain = (_section(name, tables) for name in ("ablate", "clean", "pretrain"))
    artifact = measure(own, clean, pretrain, run)
    if artifact.fresh:
        join(run)
    _print([artifact], run, json_)


@app.command("config")
def config_reference() -> None:
    """Print the reference of every config key (docs/config.md)."""
    from commonroot.config import document

    print(document(_models()), end="")


@app.command()
def server(
    run: Run = RUN_DIR,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8443,
    name: Annotated[list[str] | None, typer.Option(help="How nodes call this server.")] = None,
) -> None:
    """Run a Flower SuperLink over TLS, in the foreground."""
    from federate.engines import deployment

    deployment.server(run / "deploy", host, port, name or [])


@app.command()
def client(
    shard: Annotated[Path, typer.Option(help="The client's folder of text.")],
    name: Annotated[str, typer.Option(help="What the server may call this client.")] = "",
    config: Config = DEMO,
    run: Run = RUN_DIR,
    base: Annotated[Path | None, typer.Option(help="Base checkpoint; default RUN/3-base.")] = None,
    ca: Annotated[Path | None, typer.Option(help="The server's ca.pem.")] = None,
    superlink: str = "127.0.0.1:8443",
    set_: Set = None,
) -> None:
    """Serve one shard: a silo and its Flower SuperNode, in the foreground."""
    from federate.stage import join_as_client

    section = _section("federate", load_tables(config, set_ or [], TABLES))
    ca = ca or run / "deploy" / "ca.pem"
    join_as_client(section, shard, name, base or run / "3-base", run, ca, superlink)


@app.command()
def register(
    key: Annotated[Path, typer.Option(help="The client's node.pub.")],
    run: Run = RUN_DIR,
    ca: Annotated[Path | None, typer.Option(help="The server's ca.pem.")] = None,
    superlink: str = "127.0.0.1:8443",
) -> None:
    """Admit a client on another machine to the server, once."""
    from federate.engines import deployment

    deployment.register(key, ca or run / "deploy" / "ca.pem", superlink)


@app.command()
def submit(
    config: Config = DEMO,
    run: Run = RUN_DIR,
    set_: Set = None,
    ca: Annotated[Path | None, typer.Option(help="The server's ca.pem.")] = None,
    superlink: str = "127.0.0.1:8443",
    json_: Json = False,
) -> None:
    """Run the rounds over the clients that joined the server."""
    from federate.stage import submit as run_over

    section = _section("federate", load_tables(config, set_ or [], TABLES))
    _print([run_over(section, run, superlink, ca or run / "deploy" / "ca.pem")], run, json_)


def _section(stage: str, tables: Tables) -> Any:
    return parse_section(_models()[stage], stage, tables)


def _models() -> dict[str, type[Section]]:
    from federate.comparison.stage import CompareConfig
    from federate.plan import FederateConfig
    from federate.release.stage import ReleaseConfig
    from federate.shards.stage import ShardsConfig
    from ingest.clean import CleanConfig
    from ingest.gather import GatherConfig
    from pretrain.ablation import AblateConfig
    from pretrain.stage import PretrainConfig

    models = (
        GatherConfig,
        CleanConfig,
        PretrainConfig,
        ShardsConfig,
        FederateConfig,
        CompareConfig,
        ReleaseConfig,
        AblateConfig,
    )
    return dict(zip(TABLES, models, strict=True))


def _runner(stage: str) -> Callable[[Any, Path], Artifact]:
    import importlib

    modules = {
        "gather": "ingest.gather",
        "clean": "ingest.clean",
        "pretrain": "pretrain.stage",
        "shards": "federate.shards.stage",
        "federate": "federate.stage",
        "compare": "federate.comparison.stage",
        "release": "federate.release.stage",
    }
    runner: Callable[[Any, Path], Artifact] = importlib.import_module(modules[stage]).run
    return runner


def _run_stage(stage: str, tables: Tables, run: Path) -> Artifact:
    from commonroot.progress import say
    from commonroot.report import join

    for name in STAGES:  # a mistake in a later table is found before an hour is spent
        _section(name, tables)
    artifact = _runner(stage)(_section(stage, tables), run)
    if not _leads():
        return artifact
    say(f"{stage}: {'done' if artifact.fresh else 'up to date'} ({artifact.path})")
    if artifact.fresh:
        join(run)
    return artifact


def _print(artifacts: list[Artifact], run: Path, as_json: bool) -> None:
    if as_json:
        last = artifacts[-1]
        done = {a.kind: {"digest": a.digest, "fresh": a.fresh} for a in artifacts}
        print(json.dumps({"run": str(run), "artifacts": done, "metrics": last.metrics}))
        return
    for artifact in artifacts:
        state = "done" if artifact.fresh else "up to date, no work"
        print(f"{artifact.path}: {state}; digest {artifact.digest[:12]}")
    print(f"report: {run / 'report.html'}")
