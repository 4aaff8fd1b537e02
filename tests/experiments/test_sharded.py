"""What is refused of FSDP's first version, which accelerate cannot set up without a GPU; the rest is in tests/invariant."""

from types import SimpleNamespace
from typing import Any

import pytest
from accelerate.utils import DistributedType

from maxrl.errors import InputError
from maxrl.experiments.recipe import make_recipe
from maxrl.experiments.sharded import check_sharding


def accelerator(version: int) -> Any:
    plugin = SimpleNamespace(fsdp_version=version, state_dict_type="StateDictType.FULL_STATE_DICT")
    return SimpleNamespace(
        distributed_type=DistributedType.FSDP,
        state=SimpleNamespace(fsdp_plugin=plugin, deepspeed_plugin=None),
    )


def test_the_first_version_of_fsdp_is_refused() -> None:
    recipe = make_recipe({"task": "subset_sum", "use_cpu": True, "bf16": False})
    with pytest.raises(InputError, match=r"fsdp_version is 1.*set it to 2"):
        check_sharding(accelerator(1), recipe)
    check_sharding(accelerator(2), recipe)
