"""`publish`: the finished model to the Hugging Face Hub, in one commit, however the Hub behaves meanwhile.

`publish_command` is what the pod runs: it watches over the time and SIGTERM, and writes the record. Read `publish_run` next:
the sealed model (`sealed`), its card (`card`, from the report of the training and the facts in `base_model_card`), the upload
(`repository`) again and again (`retries`) until it is done. `shared.hub` makes one try of each request, and says what a refusal
means and what a token may do.
"""


def main() -> int:
    """Run the command; return its exit code."""
    from finetune_trainer.publish.publish_command import main as run

    return run()
