"""A task of your own: sort the letters of a word. Copy this file and change what is sorted.

    maxrl tasks check examples/own_task.py
    maxrl train --task examples/own_task.py --num_letters 6 …

A task is a frozen dataclass that inherits from `maxrl.tasks.Task`. Its fields are its parameters: they become options of
the command line and fields of a recipe. It must have a name, `examples` and `score`; whatever else it has is welcome:
`demonstration` makes warm starts and self-checks possible, `vocabulary` small models made on the spot.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from maxrl.errors import InputError
from maxrl.tasks import Example, Split, Task, Verdict
from maxrl.tasks.streams import problem_streams


@dataclass(frozen=True, kw_only=True)
class SortLetters(Task):
    """Write the letters of a made-up word in alphabetical order."""

    name: ClassVar[str] = "sort_letters"  # a ClassVar, or it would be a parameter

    num_letters: int = field(default=5, metadata={"help": "how many letters a word has (2 to 20)"})

    def __post_init__(self) -> None:
        if self.num_letters not in range(2, 21):
            raise InputError(
                f"num_letters={self.num_letters} is not allowed; give a whole number from 2 to 20"
            )

    def examples(self, split: Split, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
        """Each problem has a random generator of its own, that depends on task, parameters, split, seed and index alone."""
        streams = problem_streams(
            self.name, {"num_letters": self.num_letters}, split, count, seed=seed, start=start
        )
        return [
            self._example(id_, rng.choices("abcdefghijklmnopqrstuvwxyz", k=self.num_letters))
            for id_, rng in streams
        ]

    def _example(self, id_: str, letters: list[str]) -> Example:
        word = "".join(letters)
        question = f"Sort the letters of {word} alphabetically. Answer with the sorted letters only."
        # `truth` is what the verifier sees and the model does not: JSON types only.
        return Example(id=id_, prompt=[{"role": "user", "content": question}], truth={"word": word})

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        """Read the completion strictly: what a lenient verifier lets pass, a model will learn to write.

        A failure is a zero with one of a few fixed reasons, which are counted in the logs. Where the verifier itself fails,
        say it with `Verdict(success=False, reward=None, reason="no words", error="…")`, or let it raise: the rollout then
        leaves its group.
        """
        answer = completion.strip()
        if sorted(answer) != sorted(truth["word"]):
            return Verdict(success=False, reward=0.0, reason="other letters")
        if answer != "".join(sorted(answer)):
            return Verdict(success=False, reward=0.0, reason="not sorted")
        return Verdict(success=True, reward=1.0)

    def demonstration(self, example: Example) -> str:
        """A right answer, from the id and the truth alone."""
        return "".join(sorted(example.truth["word"]))

    def corruptions(self, example: Example, gold: str) -> Iterator[tuple[str, str]]:
        """Answers that are wrong for certain, each after its name: the self-check wants every one refused."""
        yield from super().corruptions(example, gold)
        yield "letter missing", gold[1:]
        yield "letter twice", gold[0] + gold
        yield "words around", f"The answer is {gold}"
        if gold[0] != gold[-1]:  # else the reverse may be the same
            yield "backwards", gold[::-1]
