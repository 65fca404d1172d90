"""A LoRA made by stock PEFT on a checkpoint, with random factors: for the tests of structure."""

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM


def lora_on(base, folder, *, rank, modules, alpha=8, seed=5, **more):
    torch.manual_seed(seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        target_modules=modules,
        init_lora_weights=False,  # both factors random, so that the update is not zero
        base_model_name_or_path="base",
        **more,
    )
    plain = AutoModelForCausalLM.from_pretrained(base)
    get_peft_model(plain, config).save_pretrained(folder, save_embedding_layers=False)
    return folder
