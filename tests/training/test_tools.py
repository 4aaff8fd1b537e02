"""TRL's tools and environments through `MaxRLTrainer`: a Qwen3 that follows a script, under TRL's own template."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tests.training.settings import settings
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from trl.chat_template_utils import is_chat_template_prefix_preserving, qwen3_chat_template

from maxrl.training import MaxRLConfig, MaxRLTrainer

LEARNING_RATE = 0.1
BUDGET = 512  # tokens, which are bytes here
QUESTIONS = [(2, 3), (4, 5), (6, 1), (7, 2)]  # two a step, in this order

Turn = Callable[[str], str]  # what the policy has seen so far → what it says next


def build_byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, and the markers of Qwen3; as in Qwen3, those of thoughts and tools survive decoding."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE({letter: index for index, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    backend.add_tokens(
        ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=qwen3_chat_template,
        clean_up_tokenization_spaces=False,
    )


class ScriptedQwen3(Qwen3ForCausalLM):
    """Weights, gradients and `forward` of a tiny Qwen3; what it samples is written down.

    `script` holds the turns of each rollout of a step, in the order of the batch. A turn that calls a tool is
    followed by the rollout's next turn, which sees the tool's answer.
    """

    tokenizer: PreTrainedTokenizerFast
    script: Sequence[Sequence[Turn]]

    def start(self, tokenizer: PreTrainedTokenizerFast, script: Sequence[Sequence[Turn]]) -> None:
        self.tokenizer, self.script = tokenizer, script
        self.calls: list[tuple[int, bool]] = []  # rows, training mode
        self.said: list[list[str]] = []

    def generate(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> Tensor:  # pyright: ignore
        self.calls.append((len(input_ids), self.training))
        seen = [
            self.tokenizer.decode(row[mask.bool()])
            for row, mask in zip(input_ids, attention_mask, strict=True)
        ]
        if "<tool_response>" not in seen[0]:
            self.said = [[] for _ in self.script]
            self.waiting = list(range(len(self.script)))
        replies = []
        for rollout, text in zip(self.waiting, seen, strict=True):
            replies.append(self.script[rollout][len(self.said[rollout])](text))
            self.said[rollout].append(replies[-1])
        self.waiting = [
            rollout for rollout, reply in zip(self.waiting, replies, strict=True) if "<tool_call>" in reply
        ]
        rows = [torch.tensor(self.tokenizer(reply + "<|im_end|>")["input_ids"]) for reply in replies]
        said = torch.nn.utils.rnn.pad_sequence(
            rows, batch_first=True, padding_value=self.tokenizer.pad_token_id
        )
        return torch.cat([input_ids, said], dim=1)


class Recording(MaxRLTrainer):
    """Keeps, of each step, the batch and the weights it was sampled with."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.steps: list[tuple[dict[str, Any], Tensor]] = getattr(self, "steps", [])
        start = flat(self.model)
        output = super()._generate_and_score_completions(inputs)
        self.steps.append((dict(output), start))
        return output


def flat(model: torch.nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# The turns. An answer is read off the tool's answer, so that only a call that came through can be right.


def tool_call(name: str, **arguments: int) -> str:
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": arguments}) + "\n</tool_call>"


def asked(seen: str) -> tuple[int, int]:
    a, b = re.findall(r"What is (\d+) \+ (\d+)\?", seen)[-1]
    return int(a), int(b)


def told(seen: str) -> str:
    return re.findall(r"<tool_response>\n(.*)\n</tool_response>", seen)[-1]


def call(seen: str) -> str:
    a, b = asked(seen)
    return tool_call("add", a=a, b=b)


def call_again(seen: str) -> str:
    return tool_call("add", a=int(told(seen)), b=0)


def right(seen: str) -> str:
    return told(seen)


def wrong(seen: str) -> str:
    return str(int(told(seen)) + 1)


def right_at_once(seen: str) -> str:
    return str(sum(asked(seen)))


def wrong_at_once(seen: str) -> str:
    return "no idea"


SCRIPT = [
    [call, right],
    [call, wrong],
    [call, wrong],
    [call, wrong],  # r̂ = 1/4: (1 − ¼)/¼ = 3 and (0 − ¼)/¼ = −1
    [right_at_once],
    [call, call_again, right],
    [call, wrong],
    [wrong_at_once],  # r̂ = 1/2: ±1
]
ADVANTAGES = [3.0, -1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0]


def correct(completions: Any, a: Any, b: Any, **_: Any) -> list[float]:
    """1 where the last message is the sum."""
    return [
        float(completion[-1]["content"] == str(x + y))
        for completion, x, y in zip(completions, a, b, strict=True)
    ]


async def used_a_tool(completions: Any, **_: Any) -> list[float]:
    """1 where a message came from a tool."""
    return [float(any(message["role"] == "tool" for message in completion)) for completion in completions]


@pytest.fixture(scope="module")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    return build_byte_tokenizer()


@pytest.fixture
def policy(byte_tokenizer: PreTrainedTokenizerFast) -> ScriptedQwen3:
    config = Qwen3Config(
        vocab_size=len(byte_tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        pad_token_id=byte_tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=byte_tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return ScriptedQwen3(config)


@pytest.fixture
def train(
    tmp_path: Path, policy: ScriptedQwen3, byte_tokenizer: PreTrainedTokenizerFast
) -> Callable[..., Recording]:
    """Two steps of two groups of four; plain gradient descent, so that the update is the gradient."""
    questions = Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": f"What is {a} + {b}?"}] for a, b in QUESTIONS],
            "a": [a for a, _ in QUESTIONS],
            "b": [b for _, b in QUESTIONS],
        }
    )

    def run(script: Sequence[Sequence[Turn]] = SCRIPT, **extra: Any) -> Recording:
        fields = {
            name: extra.pop(name) for name in ("reward_weights", "correctness_threshold") if name in extra
        }
        policy.start(byte_tokenizer, script)
        own = {
            "max_completion_length": BUDGET,
            "max_steps": 2,
            "optim": "sgd",
            "learning_rate": LEARNING_RATE,
            "max_grad_norm": 0.0,
            "shuffle_dataset": False,
        }
        trainer = Recording(
            model=policy,
            args=MaxRLConfig(**settings(tmp_path, **own, **fields)),
            train_dataset=questions,
            processing_class=byte_tokenizer,
            **extra,
        )
        trainer.train()
        return trainer

    return run


def logs(trainer: MaxRLTrainer) -> list[dict[str, float]]:
    return [row for row in trainer.state.log_history if "reward" in row]


def tool_text(answer: str) -> str:
    """What Qwen3's template puts between a call and the policy's next turn."""
    return (
        f"\n<|im_start|>user\n<tool_response>\n{answer}\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


def expected_rows(
    tokenizer: PreTrainedTokenizerFast, rollouts: Sequence[Sequence[str]]
) -> list[tuple[list[int], list[int]]]:
    """Token ids and tool mask of rollouts told as [said, tool, said, …]."""
    rows = []
    for rollout in rollouts:
        ids: list[int] = []
        mask: list[int] = []
        for index, text in enumerate(rollout):
            own = index % 2 == 0
            piece = tokenizer(text + "<|im_end|>" if own else tool_text(text))["input_ids"]
            ids += piece
            mask += [int(own)] * len(piece)
        rows.append((ids, mask))
    return rows


def check_rollouts(batch: dict[str, Any], rows: Sequence[tuple[list[int], list[int]]]) -> None:
    for index, (ids, mask) in enumerate(rows):
        length = int(batch["completion_mask"][index].sum())
        assert batch["completion_ids"][index, :length].tolist() == ids
        assert batch["tool_mask"][index, :length].tolist() == mask


def check_updates(
    trainer: Recording,
    policy: ScriptedQwen3,
    rows: Sequence[Sequence[tuple[list[int], list[int]]]],
    advantages: Sequence[float],
) -> None:
    """Each step moved the weights by η ∇ Σ_i A_i Σ_t log π(own token t of rollout i) / (rollouts · budget)."""
    weights = [start for _, start in trainer.steps] + [flat(policy)]
    probe = Qwen3ForCausalLM(policy.config)
    for step, (batch, start) in enumerate(trainer.steps):
        torch.nn.utils.vector_to_parameters(start, probe.parameters())
        probe.zero_grad()
        for index, (ids, mask) in enumerate(rows[step]):
            prompt = batch["prompt_ids"][index][batch["prompt_mask"][index].bool()]
            whole = torch.cat([prompt, torch.tensor(ids)])
            logp = probe(whole.unsqueeze(0)).logits[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
            own = logp.gather(1, torch.tensor(ids).unsqueeze(1)).squeeze(1) * torch.tensor(mask)
            (advantages[index] * own.sum() / (len(rows[step]) * BUDGET)).backward()
        gradient = torch.cat([p.grad.flatten() for p in probe.parameters() if p.grad is not None])
        moved = weights[step + 1] - weights[step]
        assert moved.abs().max() > 1e-4
        torch.testing.assert_close(moved, LEARNING_RATE * gradient, rtol=1e-3, atol=1e-6)


def story(a: int, b: int, c: int, d: int) -> list[list[str]]:
    """The eight rollouts of `SCRIPT` for the questions a + b and c + d, by hand."""
    first, second = tool_call("add", a=a, b=b), tool_call("add", a=c, b=d)
    failure = [first, str(a + b), str(a + b + 1)]
    return [
        [first, str(a + b), str(a + b)],
        failure,
        failure,
        failure,
        [str(c + d)],
        [second, str(c + d), tool_call("add", a=c + d, b=0), str(c + d), str(c + d)],
        [second, str(c + d), str(c + d + 1)],
        ["no idea"],
    ]


STORIES = [story(*QUESTIONS[0], *QUESTIONS[1]), story(*QUESTIONS[2], *QUESTIONS[3])]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_tools_are_called_masked_and_weighed_by_the_estimator(
    train: Any, policy: ScriptedQwen3, byte_tokenizer: PreTrainedTokenizerFast, asynchronous: bool
) -> None:
    called: list[tuple[int, int]] = []

    def add(a: int, b: int) -> int:
        """Add two numbers.

        Args:
            a: The first number.
            b: The second number.
        """
        called.append((a, b))
        return a + b

    async def add_later(a: int, b: int) -> int:
        return add(a, b)

    add_later.__name__, add_later.__doc__ = "add", add.__doc__

    # Qwen3's own template drops earlier thoughts; TRL must have put its training template in its place.
    assert not is_chat_template_prefix_preserving(byte_tokenizer)
    trainer = train(reward_funcs=correct, tools=[add_later if asynchronous else add])
    assert trainer.chat_template is not None

    assert called == [(2, 3)] * 4 + [(4, 5)] * 2 + [(9, 0)] + [(6, 1)] * 4 + [(7, 2)] * 2 + [(9, 0)]
    # Eight rollouts start, six wait for a tool, one of them twice; always in evaluation mode, like plain sampling.
    assert policy.calls == [(8, False), (6, False), (1, False)] * 2
    assert policy.training
    rows = [expected_rows(byte_tokenizer, rollouts) for rollouts in STORIES]
    for (batch, _), expected in zip(trainer.steps, rows, strict=True):
        assert '"name": "add"' in byte_tokenizer.decode(batch["prompt_ids"][0])
        check_rollouts(batch, expected)
        assert batch["advantages"].tolist() == ADVANTAGES
    assert list(trainer._logs["advantages"]) == ADVANTAGES
    for row in logs(trainer):
        assert row["tools/call_frequency"] == 7 / 8
        assert row["tools/failure_frequency"] == 0
        assert row["success_rate"] == 3 / 8
        assert row["advantage_mass"] == 10 / 8
        assert row["completions/clipped_ratio"] == 0
    check_updates(trainer, policy, rows, ADVANTAGES)


def test_a_tool_that_fails_is_an_answer_like_any_other(
    train: Any, policy: ScriptedQwen3, byte_tokenizer: PreTrainedTokenizerFast
) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers, or not.

        Args:
            a: The first number.
            b: The second number.
        """
        if (a, b) == QUESTIONS[0]:
            raise ValueError("out of order")
        return a + b

    script = [[call, right_at_once], [call, wrong_at_once]] * 4
    trainer = train(script, reward_funcs=correct, tools=[add])
    batch, _ = trainer.steps[0]
    failed, answered = tool_call("add", a=2, b=3), tool_call("add", a=4, b=5)
    error = str({"error": "out of order"})
    told_by_hand = [[failed, error, "5"], [failed, error, "no idea"]] * 2
    told_by_hand += [[answered, "9", "9"], [answered, "9", "no idea"]] * 2
    check_rollouts(batch, expected_rows(byte_tokenizer, told_by_hand))
    assert batch["advantages"].tolist() == [1.0, -1.0] * 4
    assert [row["tools/failure_frequency"] for row in logs(trainer)] == [0.5, 0.0]


def test_synchronous_and_asynchronous_rewards_are_summed_before_the_estimator(train: Any) -> None:
    """Right *and* with a tool, ½ + ½ > ¾: rollout 4, right at once, is no success any more."""

    def add(a: int, b: int) -> int:
        """Add two numbers.

        Args:
            a: The first number.
            b: The second number.
        """
        return a + b

    trainer = train(
        reward_funcs=[correct, used_a_tool],
        tools=[add],
        reward_weights=[0.5, 0.5],
        correctness_threshold=0.75,
    )
    for batch, _ in trainer.steps:
        assert batch["advantages"].tolist() == [3.0, -1.0, -1.0, -1.0, -1.0, 3.0, -1.0, -1.0]
    for row in logs(trainer):
        assert row["rewards/correct/mean"] == 3 / 8
        assert row["rewards/used_a_tool/mean"] == 6 / 8
        assert row["success_rate"] == 2 / 8


class Counter:
    """An environment: a sum to reach by adding, which knows itself whether it was reached."""

    made = 0

    def __init__(self) -> None:
        Counter.made += 1

    def reset(self, a: int, b: int, **_: Any) -> str:
        self.total, self.goal = 0, a + b
        return f" Reach {self.goal}."

    def increase(self, by: int) -> str:
        """Add to the counter.

        Args:
            by: How much.
        """
        self.total += by
        return f"{self.total} of {self.goal}"

    def get_reward(self) -> float:
        return float(self.total == self.goal)


def goal(seen: str) -> int:
    return int(re.findall(r"Reach (\d+)\.", seen)[-1])


def increase_by_one(seen: str) -> str:
    return tool_call("increase", by=1)


def increase_by_the_rest(seen: str) -> str:
    done = int(told(seen).split(" of ")[0]) if "<tool_response>" in seen else 0
    return tool_call("increase", by=goal(seen) - done)


def done(seen: str) -> str:
    return "done"


@pytest.mark.filterwarnings("ignore:You are using 'environment_factory':UserWarning")
def test_an_environment_scores_its_own_rollout(
    train: Any,
    policy: ScriptedQwen3,
    byte_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Counter, "made", 0)
    script = [
        [increase_by_the_rest, done],
        [increase_by_one, done],
        [done],
        [increase_by_one, done],
        [increase_by_one, increase_by_the_rest, done],
        [increase_by_the_rest, increase_by_one, done],  # reached, and left behind
        [increase_by_the_rest, done],
        [done],
    ]
    trainer = train(script, environment_factory=Counter)
    assert Counter.made == 8  # one per rollout, and kept for the next step
    rows = []
    for (a, b), (c, d) in (QUESTIONS[:2], QUESTIONS[2:]):
        one, first, second = tool_call("increase", by=1), a + b, c + d
        slow = [one, f"1 of {first}", "done"]
        rollouts = [
            [tool_call("increase", by=first), f"{first} of {first}", "done"],
            slow,
            ["done"],
            slow,
            [one, f"1 of {second}", tool_call("increase", by=second - 1), f"{second} of {second}", "done"],
            [
                tool_call("increase", by=second),
                f"{second} of {second}",
                one,
                f"{second + 1} of {second}",
                "done",
            ],
            [tool_call("increase", by=second), f"{second} of {second}", "done"],
            ["done"],
        ]
        rows.append(expected_rows(byte_tokenizer, rollouts))
    for (batch, _), expected in zip(trainer.steps, rows, strict=True):
        check_rollouts(batch, expected)
        assert batch["advantages"].tolist() == [3.0, -1.0, -1.0, -1.0, 1.0, -1.0, 1.0, -1.0]
    for row in logs(trainer):
        assert row["rewards/Counter/mean"] == row["success_rate"] == 3 / 8
        assert row["tools/call_frequency"] == 1.0  # 1 + 1 + 0 + 1 + 2 + 2 + 1 + 0
    check_updates(trainer, policy, rows, [3.0, -1.0, -1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
