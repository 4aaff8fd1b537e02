"""MaxRL on one page: a small model learns subset-sum, first from demonstrations, then from its own successes.

Reinforcement learning climbs p, the chance that a sampled answer is right. Maximum likelihood climbs log p, whose
gradient ∇p/p counts a problem the more, the more rarely it is solved. Nobody knows p, but the mean reward r̂ of N
rollouts estimates it: weighing each rollout by (r − r̂)/r̂ climbs log p up to order N − 1 of its series in 1 − p.
That is MaxRL (arXiv 2602.02710); with N = 2 it is plain reinforcement learning.

    python examples/minimal.py                     # half a minute on one CPU core
    python examples/minimal.py --estimator grpo    # gains more at pass@1, keeps less of pass@64: compare --seed 1
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Adam, Optimizer

from maxrl.engine import PromptGroup, SamplingParams, SharedPrefixGenerator, engine_attention, token_logprobs
from maxrl.evaluation import EvalSettings, evaluate
from maxrl.models import TinyModel, build_tiny, build_tokenizer, decode_completion, encode_prompt
from maxrl.objectives import ESTIMATORS, get_estimator
from maxrl.tasks import SubsetSum

# The setting of recipes/subset_sum_tiny.yaml, so that results can be held against those of `maxrl train`.
TASK = SubsetSum(num_elements=6, max_value=20, prompt_format="compact")
SHAPE = TinyModel(tiny_layers=3, tiny_width=64, tiny_heads=4, tiny_kv_heads=2, tiny_feed_forward=256)
DEMONSTRATION_STEPS, DEMONSTRATIONS = 350, 64  # then a quarter of the sampled answers is right
PROMPTS, ROLLOUTS, MAX_COMPLETION_LENGTH = 16, 32, 8
EVALUATION = EvalSettings(eval_problems=200, eval_samples=64, eval_ks=[1, 4, 16, 64], eval_greedy=False)

VOCABULARY = TASK.vocabulary()
assert VOCABULARY is not None, "the chat form needs a general tokenizer, and a model to go with it"
TOKENIZER = build_tokenizer(VOCABULARY.words)
END = TOKENIZER.encode("<eos>", add_special_tokens=False)


def climb(model: nn.Module, optimizer: Optimizer, groups: Sequence[PromptGroup], weights_GN: Tensor) -> None:
    """One step up the gradient of Σ weight · log π(completion | prompt), for G prompts with N completions each."""
    # A group of weights 0 adds exactly 0 to the sum. Leaving it out saves its forward and backward pass and
    # changes no gradient, because the divisor below counts its completions all the same.
    live_G = weights_GN.any(dim=1)
    if not live_G.any():
        return
    with engine_attention(model):  # reads a prompt once, however many completions go on from it
        live_groups = [group for group, live in zip(groups, live_G, strict=True) if live]
        logprobs_R = token_logprobs(model, live_groups).logprobs.sum(dim=1)
        # A constant: the number of tokens drawn is random too, and would bend the expected gradient.
        divisor = weights_GN.numel() * MAX_COMPLETION_LENGTH
        loss = -(weights_GN[live_G].flatten() * logprobs_R).sum() / divisor
        optimizer.zero_grad()
        loss.backward()
    clip_grad_norm_(model.parameters(), 1.0)  # a lone success among 32 weighs 31, and must not carry all away
    optimizer.step()


def learn_from_demonstrations(model: nn.Module) -> None:
    """Maximum likelihood of answers given. A random model never succeeds, and failures alone teach it nothing."""
    optimizer = Adam(model.parameters(), lr=1e-3)
    for step in range(DEMONSTRATION_STEPS):
        # A seed that nobody gives to --seed: the problems practised later are others.
        examples = TASK.examples("train", DEMONSTRATIONS, seed=2**31 - 1, start=step * DEMONSTRATIONS)
        prompts = [encode_prompt(TOKENIZER, example.prompt) for example in examples]
        answers = [TOKENIZER.encode(TASK.demonstration(e), add_special_tokens=False) + END for e in examples]
        groups = [PromptGroup(prompt, [answer]) for prompt, answer in zip(prompts, answers, strict=True)]
        # A demonstration is a rollout that is sure to succeed, alone in its group: its weight is 1.
        climb(model, optimizer, groups, torch.ones(len(groups), 1))


def learn_from_successes(model: nn.Module, estimator: Callable[..., Tensor], steps: int, seed: int) -> None:
    """Maximum likelihood of success, if the estimator is MaxRL: sample, score, weigh, climb."""
    optimizer = Adam(model.parameters(), lr=3e-4)
    generator = SharedPrefixGenerator(model, stop_ids=END)
    params = SamplingParams(max_completion_length=MAX_COMPLETION_LENGTH, num_generations=ROLLOUTS)
    history: list[Tensor] = []
    for start in range(0, steps * PROMPTS, PROMPTS):
        examples = TASK.examples("train", PROMPTS, seed=seed, start=start)
        prompts = [encode_prompt(TOKENIZER, example.prompt) for example in examples]
        # A seed for each prompt, not one for all: no draw depends on what else is in the batch.
        drawn = generator.generate(prompts, params, seeds=[2**32 * seed + start + i for i in range(PROMPTS)])
        groups, rewards = list[PromptGroup](), list[list[float]]()
        for example, prompt, completions in zip(examples, prompts, drawn, strict=True):
            groups.append(PromptGroup(prompt, [completion.token_ids for completion in completions]))
            texts = [decode_completion(TOKENIZER, completion.token_ids) for completion in completions]
            rewards.append([float(TASK.score(example.truth, text).success) for text in texts])
        rewards_GN = torch.tensor(rewards)
        # MaxRL: 4 successes among 32 get 7 each and the failures −1. Where none or all succeed, all get 0.
        advantages_GN = estimator(rewards_GN)
        # These very weights drew the rollouts: there is no older policy to correct for, no ratio to clip.
        climb(model, optimizer, groups, advantages_GN)
        history.append(torch.stack([rewards_GN.mean(), advantages_GN.any(dim=1).float().mean()]))
        if len(history) % 10 == 0:  # one batch of 16 problems says little
            success, live = torch.stack(history[-10:]).mean(dim=0)
            print(f"step {len(history):3}   success rate {success:.3f}   groups with signal {live:.3f}")


def report(title: str, model: nn.Module) -> None:
    """pass@k on problems that no training stream holds, the same in every call."""
    generator = SharedPrefixGenerator(model, stop_ids=END)
    result = evaluate(generator, TOKENIZER, TASK, EVALUATION, max_completion_length=MAX_COMPLETION_LENGTH)
    print(f"{title:<20}", *(f"pass@{entry.k} {entry.estimate:.1%}" for entry in result.pass_at_k), sep="   ")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--estimator", choices=ESTIMATORS, default="maxrl", help="from rewards to advantages")
    parser.add_argument("--steps", type=int, default=120, help="updates, of 16 prompts × 32 rollouts (120)")
    parser.add_argument("--seed", type=int, default=0, help="of problems and draws; the start stays the same")
    options = parser.parse_args(arguments)
    model = build_tiny(TOKENIZER, SHAPE)
    learn_from_demonstrations(model)
    report("from demonstrations", model)
    learn_from_successes(model, get_estimator(options.estimator), options.steps, options.seed)
    report(f"… and with {options.estimator}", model)


if __name__ == "__main__":
    main()
