"""The rules of a FineTuneJob that types and bounds cannot express, as CEL: declared once.

`crd` puts them into the CustomResourceDefinition, where the API server evaluates them; `api.validation` evaluates the
same text. `fields` has the rules between fields, `dataset` those of the data, `tasks` those of the fields that go with a
task, `scripts` those of the user's own programs, `names` those of image and references, `resources` those of quantities and
devices, `publishing` those of the Hub, `training` those of the Trainer's arguments, `transitions` those of changes in the
life of a job.
"""

from finetune_operator.api.rules import (
    dataset,
    fields,
    names,
    publishing,
    resources,
    script_rules,
    tasks,
    training,
    transitions,
)
from finetune_operator.api.rules.rule import Rule

RULES: tuple[Rule, ...] = (
    *fields.RULES,
    *dataset.RULES,
    *script_rules.RULES,
    *tasks.RULES,
    *resources.RULES,
    *names.RULES,
    *publishing.RULES,
    *training.RULES,
    *transitions.RULES,
)

__all__ = ["RULES", "Rule"]
