"""Generation through `transformers`' own `generate`: works for every causal model, fast for none."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from maxrl.engine.modes import evaluation_mode
from maxrl.engine.protocol import Completion, SamplingParams, check_request
from maxrl.errors import InputError

MOST_SCORES = 2**29
"""Scores, in float32, that one call of `generate` may hand back."""


class TransformersGenerator:
    """`Generator` on top of a transformers causal language model.

    Args:
        model: the policy; may be wrapped by peft. It is read, never changed: training mode is restored.
        stop_ids: token ids that end a completion (the end of text, the end of a turn …).
        pad_id: id that fills shorter rows; any id will do, it never reaches the result.
        batch_tokens: most tokens, prompts and completions together, that one call of `generate` may hold (though
            at least one completion); bounds memory. Log-probabilities do not depend on it, the draws do.
            A call is also kept to as many completions as have 2 GiB of scores: `generate` hands back the whole
            vocabulary's for every token.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        stop_ids: Sequence[int],
        pad_id: int,
        batch_tokens: int = 65_536,
    ) -> None:
        if not stop_ids:
            raise InputError("a generator needs at least one stop token id (eos_token_id of the tokenizer)")
        self.model = model
        self.stop_ids = tuple(dict.fromkeys(stop_ids))
        self.pad_id = pad_id
        self.batch_tokens = batch_tokens

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        seeds: Sequence[int],
        rollouts: Sequence[range] | None = None,
    ) -> list[list[Completion]]:
        """See `Generator.generate`. The whole request is one stream of random numbers, seeded by all that it asks for:
        a rollout comes out the same only in the same request.
        """
        numbers = check_request(prompts, params, seeds, rollouts)
        # One row per completion: a group too large for one call is drawn in several.
        rows = [prompt for prompt, range_ in zip(prompts, numbers, strict=True) for _ in range_]
        drawn: list[Completion] = []
        with (
            _sampling_mode(self.model),
            _seeded(self.model.device, _one_seed(seeds, numbers)),
            torch.no_grad(),
        ):
            for batch in self._batches(rows, params):
                drawn.extend(self._generate_batch(batch, params))
        done = iter(drawn)
        return [[next(done) for _ in range_] for range_ in numbers]

    def _batches(
        self, rows: Sequence[Sequence[int]], params: SamplingParams
    ) -> Iterator[Sequence[Sequence[int]]]:
        longest = max((len(prompt) for prompt in rows), default=0)
        row_scores = params.max_completion_length * self.model.config.get_text_config().vocab_size
        size = min(self.batch_tokens // (longest + params.max_completion_length), MOST_SCORES // row_scores)
        size = max(1, size)
        for start in range(0, len(rows), size):
            yield rows[start : start + size]

    def _generate_batch(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[Completion]:
        width = max(len(prompt) for prompt in prompts)
        ids = torch.full((len(prompts), width), self.pad_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        output = self.model.generate(
            input_ids=ids.to(self.model.device),
            attention_mask=mask.to(self.model.device),
            generation_config=self._generation_config(params),
        )
        new_BT: Tensor = output.sequences[:, width:]
        # `scores` are the processed logits each token was drawn from; masked tokens are -inf there.
        logprobs_BT = torch.stack(
            [
                torch.log_softmax(scores_BV.float(), dim=-1).gather(1, new_BT[:, step, None]).squeeze(1)
                for step, scores_BV in enumerate(output.scores)
            ],
            dim=1,
        )
        return [
            self._completion(tokens, logprobs)
            for tokens, logprobs in zip(new_BT.tolist(), logprobs_BT.tolist(), strict=True)
        ]

    def _generation_config(self, params: SamplingParams) -> GenerationConfig:
        greedy = params.temperature == 0
        sampling = (
            {}
            if greedy
            else {
                "temperature": params.temperature,
                "top_p": params.top_p,
                "top_k": params.top_k,
                "min_p": params.min_p,
            }
        )
        return GenerationConfig(
            do_sample=not greedy,
            max_new_tokens=params.max_completion_length,
            eos_token_id=list(self.stop_ids),
            pad_token_id=self.pad_id,
            return_dict_in_generate=True,
            output_scores=True,
            disable_compile=True,
            **sampling,
        )

    def _completion(self, tokens: list[int], logprobs: list[float]) -> Completion:
        stops = [position for position, token in enumerate(tokens) if token in self.stop_ids]
        length = stops[0] + 1 if stops else len(tokens)
        return Completion(
            token_ids=tuple(tokens[:length]),
            logprobs=tuple(logprobs[:length]),
            finish_reason="stop" if stops else "length",
        )


def _one_seed(seeds: Sequence[int], numbers: Sequence[range]) -> int:
    request = repr([(seed, range_.start, range_.stop) for seed, range_ in zip(seeds, numbers, strict=True)])
    return int.from_bytes(hashlib.sha256(request.encode()).digest()[:8], "big") >> 1


@contextmanager
def _sampling_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, so that dropout is off, and none of the generation defaults that a checkpoint brings along.

    `generate` would apply those (a repetition penalty, suppressed tokens, a least length …) wherever ours are silent,
    and sample from another distribution than the one that is trained. Everything is restored as it was.
    """
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    defaults = base.generation_config
    base.generation_config = GenerationConfig()
    try:
        with evaluation_mode(model):
            yield
    finally:
        base.generation_config = defaults


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """A random stream of its own: `generate` draws from torch's global generators only."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        # Not torch.manual_seed: it reaches the generators of all devices, also of those not restored here.
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
