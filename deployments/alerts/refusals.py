"""Why a post was not taken: the answer's status, the word for the metrics, a sentence for the sender."""


class Refusal(Exception):  # noqa: N818  being refused is no error of ours
    """A post that starts nothing; the sentence never repeats what was sent as a secret."""

    def __init__(self, status: int, outcome: str, sentence: str) -> None:
        """Take the HTTP status, the outcome's name in the metrics, and the sentence."""
        super().__init__(sentence)
        self.status = status
        self.outcome = outcome
