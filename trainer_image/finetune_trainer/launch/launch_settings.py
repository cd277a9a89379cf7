"""The settings that `launch` reads from its environment, once at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finetune_trainer.contract.records import TERMINATION_LOG
from finetune_trainer.contract.run_config import Env, RunConfig, parse_run_config
from finetune_trainer.shared.volume import Layout

DEFAULT_SAVE_TOTAL_LIMIT = 2


@dataclass(frozen=True)
class Peer:
    """Address at which the `launch` of a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Peer:
        host, _, port = text.rpartition(":")
        return cls(host.strip("[]"), int(port))


@dataclass(frozen=True)
class Settings:
    """Settings of one node of one attempt."""

    config: RunConfig
    config_file: Path
    attempt: int
    node: int
    peers: tuple[Peer, ...]
    """Addresses of all nodes, node 0 first."""
    bind: str | None
    """Address to listen on; None is all of them."""
    termination_log: Path
    first_attempt: int | None = None
    """First attempt of the round that this attempt belongs to; None where it is not known."""
    rank_command: tuple[str, ...] = ("-m", "finetune_trainer", "train")
    """Command that the launcher runs as a rank, after `python`."""
    expected_step: int | None = None
    """Step of the newest checkpoint that the job has sealed, as far as the operator knows."""

    @classmethod
    def from_env(cls, env: Mapping[str, str], rank_command: tuple[str, ...] | None = None) -> Settings:
        config_file = Path(env[Env.CONFIG])
        config = parse_run_config(config_file.read_text(encoding="utf-8"))
        attempt, node = int(env[Env.ATTEMPT]), int(env.get(Env.NODE, "0"))
        peers = _peers(config, attempt, env.get(Env.PEERS))
        return cls(
            config=config,
            config_file=config_file,
            attempt=attempt,
            node=node,
            peers=peers,
            bind=peers[node].host if env.get(Env.PEERS) else None,
            termination_log=Path(env.get(Env.TERMINATION_LOG, TERMINATION_LOG)),
            first_attempt=int(env[Env.FIRST_ATTEMPT]) if Env.FIRST_ATTEMPT in env else None,
            rank_command=rank_command or ("-m", "finetune_trainer", config.rank_command),
            expected_step=int(env[Env.CHECKPOINT_STEP]) if env.get(Env.CHECKPOINT_STEP) else None,
        )

    @property
    def layout(self) -> Layout:
        return Layout.of(self.config)

    @property
    def port(self) -> int:
        return self.peers[self.node].port

    @property
    def shares_machine(self) -> bool:
        """Whether other nodes run beside this one, on one machine."""
        return self.bind is not None and self.config.nodes > 1

    @property
    def url(self) -> str:
        """Address at which ranks reach this node's `launch`."""
        return f"http://{Peer(self.bind or '127.0.0.1', self.port)}"

    @property
    def local_ranks(self) -> range:
        """Global ranks of this node."""
        first = self.node * self.config.processes_per_node
        return range(first, first + self.config.processes_per_node)

    @property
    def save_total_limit(self) -> int | None:
        """Number of sealed checkpoints to keep; None keeps all."""
        limit = self.config.training_arguments.get("save_total_limit", DEFAULT_SAVE_TOTAL_LIMIT)
        return limit if isinstance(limit, int) else None


def _peers(config: RunConfig, attempt: int, override: str | None) -> tuple[Peer, ...]:
    if override:
        return tuple(map(Peer.parse, override.split(",")))
    if config.peers is None:
        return (Peer("127.0.0.1", config.port),)
    return tuple(Peer.parse(config.peers.format(attempt=attempt, node=node)) for node in range(config.nodes))
