#!/usr/bin/env python3
"""Makes tests/reference/families/<name>.json: what the logits of tiny random models should be.

    python -m venv v; v/bin/pip install -r tests/reference/families_requirements.txt
    v/bin/python tests/reference/families.py [NAME ...]

Each family has one or more variants below: a configuration with 2 to 4 layers, hidden 64 and 250
tokens. No weights are kept: both sides compute them from the tensor's name, as integers, so that
they agree to the last bit. Element i of a tensor is, in f64 and then rounded to f32,

    base + amplitude * ((splitmix64(fnv1a(name) + i) >> 40) - 2^23) / 2^23

"bf16" rounds that once more, to the nearest bf16. The logits are those of transformers in float32
(for bf16: of the rounded weights), since what is tested is the mathematics and not bf16's noise.
How large that noise is says "bf16_noise": how far transformers' own logits are off when it computes
in bf16, as a part of the largest one.

A file has config.json's text ("config"), the tensors of the safetensors file (name, shape, base,
amplitude), the prompt, the positions of "logits" rows per weight type, the context to serve, and
where GGUF has the family the metadata and a recipe for each GGUF tensor: where its rows come from.
Names of GGUF tensors are looked up in gguf-py's own tables, its converter's changes of the data
(rows of Q and K permuted, one added to Gemma's norms, experts stacked) are said again below.
"""
import json
import math
import pathlib
import sys

import gguf
import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

VOCAB = 250
FOLDER = pathlib.Path(__file__).parent / "families"

BASE = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=128,
            rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False, bos_token_id=1,
            eos_token_id=2, pad_token_id=0)


def family(model_type, architecture, gguf_architecture=None, context=64, tokens=48, **config):
    return dict(model_type=model_type, architecture=architecture, gguf=gguf_architecture,
                context=context, tokens=tokens, config={**BASE, **config})


LLAMA3_SCALING = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                      original_max_position_embeddings=32)
LONG = [1 + 0.5 * i for i in range(12)]
SHORT = [1 + 0.05 * i for i in range(12)]

VARIANTS = {
    "llama2": family("llama", "LlamaForCausalLM", "llama", num_key_value_heads=4),
    "llama3": family("llama", "LlamaForCausalLM", "llama", tie_word_embeddings=True,
                     rope_theta=500.0, rope_scaling=LLAMA3_SCALING, num_attention_heads=6,
                     num_key_value_heads=3),
    "llama4": family("llama4_text", "Llama4ForCausalLM", num_hidden_layers=4,
                     intermediate_size=48, intermediate_size_mlp=96, num_local_experts=4,
                     num_experts_per_tok=1, interleave_moe_layer_step=2, attention_chunk_size=20,
                     floor_scale=8, attn_scale=0.5, use_qk_norm=True, rope_theta=500.0,
                     rope_scaling=LLAMA3_SCALING),
    # What GGUF can say: queries grow from position 8191 on, every fourth layer sees everything.
    "llama4_plain": family("llama4_text", "Llama4ForCausalLM", "llama4", num_hidden_layers=4,
                           intermediate_size=48, intermediate_size_mlp=96, num_local_experts=4,
                           num_experts_per_tok=1, interleave_moe_layer_step=2,
                           attention_chunk_size=20, use_qk_norm=True, rope_theta=500.0,
                           rope_scaling=LLAMA3_SCALING),
    "llama4_two_experts": family("llama4_text", "Llama4ForCausalLM", num_hidden_layers=3,
                                 intermediate_size=40, intermediate_size_mlp=96,
                                 num_local_experts=5, num_experts_per_tok=2,
                                 interleave_moe_layer_step=1, attention_chunk_size=16,
                                 no_rope_layers=[0, 1, 1], use_qk_norm=False,
                                 attn_temperature_tuning=False),
    "mistral": family("mistral", "MistralForCausalLM", sliding_window=12, head_dim=32),
    "mistral_full": family("mistral", "MistralForCausalLM", "llama", sliding_window=None),
    "mixtral": family("mixtral", "MixtralForCausalLM", "llama", num_local_experts=4,
                      num_experts_per_tok=2, sliding_window=None, intermediate_size=48),
    "qwen2": family("qwen2", "Qwen2ForCausalLM", "qwen2", tie_word_embeddings=True),
    "qwen2_windows": family("qwen2", "Qwen2ForCausalLM", use_sliding_window=True,
                            sliding_window=9, max_window_layers=1),
    "qwen3": family("qwen3", "Qwen3ForCausalLM", "qwen3", head_dim=32),
    "qwen3_yarn": family("qwen3", "Qwen3ForCausalLM", "qwen3", head_dim=32,
                         rope_scaling=dict(rope_type="yarn", factor=4.0,
                                           original_max_position_embeddings=32)),
    "qwen3_moe": family("qwen3_moe", "Qwen3MoeForCausalLM", "qwen3moe", num_experts=8,
                        num_experts_per_tok=3, moe_intermediate_size=40, norm_topk_prob=True),
    "qwen3_moe_mixed": family("qwen3_moe", "Qwen3MoeForCausalLM", num_hidden_layers=4,
                              num_experts=6, num_experts_per_tok=2, moe_intermediate_size=64,
                              norm_topk_prob=False, decoder_sparse_step=2, mlp_only_layers=[3]),
    "gemma2": family("gemma2", "Gemma2ForCausalLM", "gemma2", tie_word_embeddings=True,
                     attn_logit_softcapping=3.0, final_logit_softcapping=4.0, sliding_window=10,
                     query_pre_attn_scalar=16, hidden_activation="gelu_pytorch_tanh"),
    "gemma3": family("gemma3_text", "Gemma3ForCausalLM", "gemma3", tie_word_embeddings=True,
                     num_hidden_layers=4, sliding_window=10, query_pre_attn_scalar=16,
                     rope_theta=100000.0, rope_local_base_freq=1000.0,
                     rope_scaling=dict(rope_type="linear", factor=8.0),
                     layer_types=["sliding_attention", "full_attention"] * 2,
                     hidden_activation="gelu_pytorch_tanh"),
    "phi3_long": family("phi3", "Phi3ForCausalLM", "phi3", num_attention_heads=2,
                        num_key_value_heads=1, head_dim=32, partial_rotary_factor=0.75,
                        sliding_window=40, original_max_position_embeddings=32,
                        rope_scaling=dict(type="longrope", short_factor=SHORT, long_factor=LONG)),
    "phi3_short": family("phi3", "Phi3ForCausalLM", "phi3", context=32, tokens=28,
                         num_attention_heads=2, num_key_value_heads=1, head_dim=32,
                         partial_rotary_factor=0.75, original_max_position_embeddings=32,
                         rope_scaling=dict(type="longrope", short_factor=SHORT, long_factor=LONG)),
    "phi4": family("phi3", "Phi3ForCausalLM", "phi3"),
}


def fnv1a(text):
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = ((state ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return state


def splitmix64(x):
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def tensor(name, shape, base, amplitude):
    count = math.prod(shape)
    with np.errstate(over="ignore"):
        at = np.arange(count, dtype=np.uint64) + np.uint64(fnv1a(name))
    steps = (splitmix64(at) >> np.uint64(40)).astype(np.int64) - (1 << 23)
    values = base + amplitude * (steps.astype(np.float64) / (1 << 23))
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def spread(name, gemma):
    """(base, amplitude) of a tensor's elements: powers of two, of a size that keeps values lively."""
    if name.endswith("norm.weight"):
        return (0.0 if gemma else 1.0), 0.25
    if "router" in name or name.endswith(".gate.weight"):
        return 0.0, 1.0
    if "embed_tokens" in name:
        return 0.0, 0.5 if gemma else 1.0
    return 0.0, 0.25


def chosen_positions(logits_of_types, count):
    """Positions spread over the prompt where the first token leads clearly, whatever the type: a
    top-1 that hangs on the last bits would test nothing."""
    clear = []
    for p in range(count):
        leads = [np.diff(np.sort(logits[p])[-2:])[0] for logits in logits_of_types]
        if min(leads) > 0.15:
            clear.append(p)
    picks = np.linspace(0, len(clear) - 1, min(8, len(clear)))
    return sorted({clear[round(i)] for i in picks})


def build(variant):
    config = AutoConfig.for_model(variant["model_type"], **json.loads(json.dumps(variant["config"])))
    config._attn_implementation = "eager"
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()


def run(model, prompt):
    with torch.no_grad():
        return model(torch.tensor([prompt]), use_cache=False).logits[0].float().numpy()


def logits_of(model, weights, prompt):
    state = {name: value for name, value in weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert all("lm_head" in name for name in missing), missing
    model.tie_weights()
    return run(model, prompt)


# --- GGUF: the converter's side

def gguf_metadata(variant):
    c, arch = variant["config"], variant["gguf"]
    keys = {"block_count": c["num_hidden_layers"], "context_length": c["max_position_embeddings"],
            "embedding_length": c["hidden_size"], "attention.head_count": c["num_attention_heads"],
            "attention.head_count_kv": c["num_key_value_heads"],
            "attention.key_length": c["head_dim"], "attention.value_length": c["head_dim"],
            "feed_forward_length": c.get("intermediate_size_mlp", c["intermediate_size"]),
            "attention.layer_norm_rms_epsilon": float(c["rms_norm_eps"]),
            "rope.freq_base": float(c["rope_theta"])}
    experts = c.get("num_local_experts") or c.get("num_experts")
    if experts:
        keys |= {"expert_count": experts, "expert_used_count": c["num_experts_per_tok"]}
    if arch in ("llama4", "qwen3moe"):
        keys["expert_feed_forward_length"] = c.get("moe_intermediate_size", c["intermediate_size"])
    if arch == "llama4":
        keys["interleave_moe_layer_step"] = c["interleave_moe_layer_step"]
        keys["attention.sliding_window"] = c["attention_chunk_size"]
    elif c.get("sliding_window"):
        keys["attention.sliding_window"] = c["sliding_window"]
    if arch == "gemma2":
        keys["attn_logit_softcapping"] = c["attn_logit_softcapping"]
        keys["final_logit_softcapping"] = c["final_logit_softcapping"]
    if arch == "gemma3":
        keys["attention.sliding_window_pattern"] = 2
        keys["rope.freq_base_swa"] = c["rope_local_base_freq"]
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}
    if variant["model_type"] == "phi3":
        keys["rope.dimension_count"] = int(c["head_dim"] * c.get("partial_rotary_factor", 1))
    if c.get("rope_scaling", {}).get("type") == "longrope":
        original = c["original_max_position_embeddings"]
        keys["rope.scaling.original_context_length"] = original
        stretch = c["max_position_embeddings"] / original
        keys["rope.scaling.attn_factor"] = math.sqrt(1 + math.log(stretch) / math.log(original))
    if c.get("rope_scaling", {}).get("rope_type") == "yarn":
        keys |= {"rope.scaling.type": "yarn", "rope.scaling.factor": c["rope_scaling"]["factor"],
                 "rope.scaling.original_context_length":
                     c["rope_scaling"]["original_max_position_embeddings"]}
    return {f"{arch}.{key}": value for key, value in keys.items()}


def llama3_divisors(config):
    scaling, dim = config["rope_scaling"], config["head_dim"]
    trained = scaling["original_max_position_embeddings"]
    low, high = trained / scaling["low_freq_factor"], trained / scaling["high_freq_factor"]
    divisors = []
    for i in range(0, dim, 2):
        wavelength = 2 * math.pi * config["rope_theta"] ** (i / dim)
        if wavelength < high:
            divisors.append(1.0)
        elif wavelength > low:
            divisors.append(scaling["factor"])
        else:
            smooth = ((trained / wavelength - scaling["low_freq_factor"])
                      / (scaling["high_freq_factor"] - scaling["low_freq_factor"]))
            divisors.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return divisors


def gguf_tensors(variant, names):
    """GGUF name -> recipe. "from" is one name, or one an expert to be stacked; "rows" a part of the
    rows; "transposed" matrices are turned first; "permuted" has Q's and K's rows in pairs."""
    c, arch = variant["config"], variant["gguf"]
    number = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[arch]
    table = gguf.get_tensor_name_map(number, c["num_hidden_layers"])
    experts = c.get("num_local_experts") or c.get("num_experts") or 0
    recipes = {}

    def add(hf, recipe):
        found = table.get_name(hf, try_suffixes=(".weight", ".bias"))
        assert found, hf
        recipes[found] = recipe

    for name in names:
        if ".experts." in name and arch == "llama4":
            if name.endswith("gate_up_proj"):
                half = c["intermediate_size"]
                add(name.replace("gate_up_proj", "gate_proj.weight"),
                    {"from": [name], "transposed": True, "rows": [0, half]})
                add(name.replace("gate_up_proj", "up_proj.weight"),
                    {"from": [name], "transposed": True, "rows": [half, 2 * half]})
            else:
                add(name + ".weight", {"from": [name], "transposed": True})
        elif ".experts." in name:
            if ".experts.0." in name:
                add(name.replace(".experts.0.", ".experts."),
                    {"from": [name.replace(".experts.0.", f".experts.{e}.")
                              for e in range(experts)], "stacked": True})
        else:
            recipe = {"from": [name]}
            if arch == "llama" and ("q_proj" in name or "k_proj" in name):
                recipe["permuted"] = c["head_dim"]
            if arch.startswith("gemma") and name.endswith("norm.weight"):
                recipe["add"] = 1.0
            add(name, recipe)
    scaling = c.get("rope_scaling") or {}
    if scaling.get("rope_type") == "llama3":
        recipes["rope_freqs.weight"] = {"values": llama3_divisors(c)}
    if scaling.get("type") == "longrope":
        recipes["rope_factors_long.weight"] = {"values": scaling["long_factor"]}
        recipes["rope_factors_short.weight"] = {"values": scaling["short_factor"]}
    return recipes


def main():
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or VARIANTS:
        variant = VARIANTS[name]
        model = build(variant)
        gemma = name.startswith("gemma")
        tied = variant["config"]["tie_word_embeddings"]
        tensors = [(key, list(value.shape), *spread(key, gemma))
                   for key, value in model.state_dict().items()
                   if not (tied and key == "lm_head.weight")]
        weights = {key: tensor(key, shape, base, amplitude)
                   for key, shape, base, amplitude in tensors}
        prompt = [(i * i * 7 + i * 31 + 5) % VOCAB for i in range(variant["tokens"])]
        rounded = {key: value.bfloat16().float() for key, value in weights.items()}
        f32, bf16 = logits_of(model, weights, prompt), logits_of(model, rounded, prompt)
        positions = chosen_positions((f32, bf16), len(prompt))
        off = np.abs(run(model.bfloat16(), prompt)[positions] - bf16[positions]).max()
        result = {
            "config": {"architectures": [variant["architecture"]],
                       "model_type": variant["model_type"], **variant["config"]},
            "tensors": tensors, "prompt": prompt, "positions": positions,
            "context": variant["context"],
            "logits": {kind: [[float(f"{x:.7g}") for x in logits[p]] for p in positions]
                       for kind, logits in (("f32", f32), ("bf16", bf16))},
            "bf16_noise": float(f"{off / np.abs(bf16[positions]).max():.4g}"),
        }
        if variant["gguf"]:
            result["gguf"] = {"architecture": variant["gguf"], "metadata": gguf_metadata(variant),
                              "tensors": gguf_tensors(variant, [t[0] for t in tensors])}
        text = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in result.items())
        (FOLDER / f"{name}.json").write_text("{" + text + "}\n")
        print(f"{name}: logits {f32.min():.2f} to {f32.max():.2f}, spread {f32.std():.2f}; "
              f"positions {positions}; {len(text)} bytes")


if __name__ == "__main__":
    main()
