"""Lean norms and MLPs: the model's own numbers, from fewer kept tensors."""

import copy

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from trainer.fit.lean_layers import make_lean

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 352,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
}
# A sum in another order: a few roundings of the dtype, as a share of the gradient's norm.
TOLERANCES = {torch.float32: 1e-6, torch.bfloat16: 2e-2}


def random_model(kind, dtype):
    torch.manual_seed(3)
    config, model = {
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "llama": (LlamaConfig, LlamaForCausalLM),
    }[kind]
    return model(config(**SHAPE)).to(dtype)


def loss_and_kept(model):
    """The loss, every gradient, and the bytes that autograd kept for the way back."""
    inputs = torch.randint(0, 96, (2, 24), generator=torch.Generator().manual_seed(1))
    kept = {}

    def keep(tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr(), storage.nbytes()] = storage  # held, so that none is reused
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(input_ids=inputs, labels=inputs).loss
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return loss, gradients, sum(size for _, size in kept)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_a_lean_model_has_its_own_loss_and_gradients(kind, dtype):
    model = random_model(kind, dtype)
    lean = copy.deepcopy(model)
    make_lean(lean)
    loss, gradients, _ = loss_and_kept(model)
    lean_loss, lean_gradients, _ = loss_and_kept(lean)
    assert torch.equal(loss, lean_loss)
    for name, gradient in gradients.items():
        error = (gradient - lean_gradients[name]).float().norm() / gradient.float().norm()
        assert error <= TOLERANCES[dtype], name


def test_less_is_kept():
    model = random_model("qwen2", torch.bfloat16)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "embed" in name
    lean = copy.deepcopy(model)
    make_lean(lean)
    tokens = 2 * 24
    saved = loss_and_kept(model)[2] - loss_and_kept(lean)[2]
    silu = SHAPE["num_hidden_layers"] * tokens * SHAPE["intermediate_size"] * 2
    assert saved >= silu


def test_a_copy_of_a_lean_model_computes_with_its_own_weights():
    lean = random_model("qwen2", torch.float32)
    make_lean(lean)
    other = copy.deepcopy(lean)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert loss_and_kept(lean)[0] != loss_and_kept(other)[0]


def test_a_layer_of_another_kind_stays():
    model = random_model("qwen2", torch.float32)
    model.model.layers[0].mlp.act_fn = torch.nn.GELU()
    make_lean(model)
    assert "forward" not in vars(model.model.layers[0].mlp)
    assert "forward" in vars(model.model.layers[1].mlp)
