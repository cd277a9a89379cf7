"""Models with headers of weights alone: as large as the headers say, without a byte of the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

Shapes = Mapping[str, tuple[int, ...]]

WIDTH, VOCABULARY = 4096, 128_256


def llama_8b() -> dict[str, tuple[int, ...]]:
    """Return names and shapes of an 8 billion parameter model as it lies on the Hub."""
    layer = {
        "self_attn.q_proj": (WIDTH, WIDTH),
        "self_attn.k_proj": (1024, WIDTH),
        "self_attn.v_proj": (1024, WIDTH),
        "self_attn.o_proj": (WIDTH, WIDTH),
        "mlp.gate_proj": (14336, WIDTH),
        "mlp.up_proj": (14336, WIDTH),
        "mlp.down_proj": (WIDTH, 14336),
        "input_layernorm": (WIDTH,),
        "post_attention_layernorm": (WIDTH,),
    }
    layers = {f"model.layers.{number}.{name}.weight": shape for number in range(32) for name, shape in layer.items()}
    ends: dict[str, tuple[int, ...]] = {"model.norm.weight": (WIDTH,)}
    tables = dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), (VOCABULARY, WIDTH))
    return {**layers, **ends, **tables}


def write_headers(folder: Path, shapes: Shapes, *, kind: str = "BF16", parts: int = 1) -> Path:
    """Write the files of a model in one part, or in several with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(shapes)
    if parts == 1:
        _write(folder / "model.safetensors", shapes, kind)
        return folder
    files = {name: f"model-{place % parts + 1:05}-of-{parts:05}.safetensors" for place, name in enumerate(names)}
    for file in set(files.values()):
        _write(folder / file, {name: shapes[name] for name in names if files[name] == file}, kind)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return folder


def _write(file: Path, shapes: Shapes, kind: str) -> None:
    entries = {name: {"dtype": kind, "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header)
