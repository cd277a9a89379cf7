"""The answer whether this image can load weights that a library has quantized: `... FOLDER` prints a line of JSON.

`{"missing": ...}` where packages are missing, `{"untrainable": method}` where nothing can be trained on such weights, `{}`
else. A device is pretended: whether there is one is not the question here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from finetune_trainer.data.model import quantization_of
from finetune_trainer.tasks.loading import DEQUANTIZED

CAPABILITY = (9, 0)
"""Capability of the imagined device; the ranks will see that of the real one."""


def main() -> None:
    """Answer for the folder on the command line."""
    from transformers import AutoConfig

    quantization = quantization_of(AutoConfig.from_pretrained(Path(sys.argv[1])))
    print(json.dumps(answer(quantization) if quantization else {}))  # noqa: T201


def answer(quantization: dict[str, Any]) -> dict[str, str]:
    """Return what is known of weights with this `quantization_config`."""
    import torch
    from transformers.quantizers.auto import AutoHfQuantizer

    method = str(quantization.get("quant_method"))
    if method in DEQUANTIZED:
        return {}
    torch.cuda.is_available = lambda: True
    torch.cuda.get_device_capability = lambda device=None: CAPABILITY
    try:
        quantizer = AutoHfQuantizer.from_config(quantization, pre_quantized=True)
        quantizer.validate_environment(device_map={"": 0})
        trainable = quantizer.is_trainable
    except ImportError as error:
        return {"missing": _sentence(error)}
    except ValueError as error:
        return {"untrainable": f"{method}: {_sentence(error)}"}
    except Exception as error:  # noqa: BLE001 - of code that needs a device
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return {}
    return {} if trainable else {"untrainable": method}


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if text.endswith(".") else f"{text}."


if __name__ == "__main__":
    main()
