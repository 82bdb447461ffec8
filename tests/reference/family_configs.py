"""The tiny models of tests/data/families: one entry per family or variant.

`config` is written as config.json as it stands, so the forms that published models use (`rope_theta` with
`rope_scaling`, the newer `rope_parameters`, `sliding_window_pattern`, `layer_types`, ...) are what the tests read.

`runs` lists the lengths of the token sequences to compute, each with the positions whose logits are kept. A run's
length is also the context that length-dependent rotary embeddings (longrope, dynamic NTK) are computed for.

`seed` replaces the folder's name in the seeds of the random numbers, where those of the name leave an expert unused.

`gguf` says whether the model also exists as a GGUF, and which keys are added to those the converter writes.
"""

VOCAB = 64
BASE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": None,
}
LONG = {48: (0, 1, 7, 15, 16, 31, 47)}


def family(architecture, model_type, *, dtype="bfloat16", runs=None, gguf=True, gguf_keys=None, drop=(), seed=None,
           **config):
    merged = {"architectures": [architecture], "model_type": model_type, **BASE, **config, "torch_dtype": dtype}
    for key in drop:
        del merged[key]
    return {"config": merged, "dtype": dtype, "runs": runs or LONG, "gguf": gguf, "gguf_keys": gguf_keys or {},
            "seed": seed}


LLAMA = ("LlamaForCausalLM", "llama")
GEMMA = {"hidden_activation": "gelu_pytorch_tanh", "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 24,
         "rms_norm_eps": 1e-6}

FAMILIES = {
    # Grouped-query attention and a head of its own.
    "llama": family(*LLAMA, hidden_act="silu", tie_word_embeddings=False, attention_bias=False),
    # Wavelengths below, between and above the two bounds.
    "llama-llama3": family(*LLAMA, num_attention_heads=2, num_key_value_heads=1, rope_scaling={
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32}),
    # A head size that is no power of two and not d_model / n_heads; biases; the newer form of the rope settings.
    "llama-linear": family(*LLAMA, num_attention_heads=2, num_key_value_heads=1, head_dim=12, attention_bias=True,
                           intermediate_size=40, drop=["rope_theta"],
                           rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}),
    # NTK-aware scaling by length: the base grows once the context is longer than max_position_embeddings.
    "llama-ntk": family(*LLAMA, max_position_embeddings=32, gguf=False, runs={24: (0, 7, 23), **LONG},
                        rope_scaling={"type": "dynamic", "factor": 2.0}),
    # A window shorter than the sequence in every layer.
    "mistral": family("MistralForCausalLM", "mistral", sliding_window=16, gguf=False, hidden_act="silu"),
    # Every fourth layer has no rotary embedding.
    "smollm3": family("SmolLM3ForCausalLM", "smollm3", num_hidden_layers=4,
                      no_rope_layer_interval=4, no_rope_layers=[1, 1, 1, 0], num_attention_heads=4,
                      num_key_value_heads=1),
    "qwen2": family("Qwen2ForCausalLM", "qwen2", dtype="float16", tie_word_embeddings=False,
                    use_sliding_window=False, sliding_window=16, max_window_layers=1),
    # The window begins with layer 1.
    "qwen2-window": family("Qwen2ForCausalLM", "qwen2", gguf=False, use_sliding_window=True, sliding_window=16,
                           max_window_layers=1),
    "qwen2-yarn": family("Qwen2ForCausalLM", "qwen2", num_attention_heads=2, num_key_value_heads=1, rope_scaling={
        "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}),
    # q_proj is wider than d_model.
    "qwen3": family("Qwen3ForCausalLM", "qwen3", dtype="float16", head_dim=16, num_key_value_heads=1,
                    intermediate_size=32),
    "qwen3-moe": family("Qwen3MoeForCausalLM", "qwen3_moe", seed="qwen3-moe#1", head_dim=8, num_experts=5, num_experts_per_tok=2,
                        moe_intermediate_size=16, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[]),
    "mixtral": family("MixtralForCausalLM", "mixtral", num_local_experts=4, num_experts_per_tok=2,
                      intermediate_size=16, sliding_window=None),
    "gemma2": family("Gemma2ForCausalLM", "gemma2", **GEMMA, sliding_window=16, query_pre_attn_scalar=24,
                     attn_logit_softcapping=5.0, final_logit_softcapping=8.0),
    "gemma3": family("Gemma3ForCausalLM", "gemma3_text", **GEMMA, num_hidden_layers=3, sliding_window=16,
                     sliding_window_pattern=3, query_pre_attn_scalar=24, rope_theta=1000000.0,
                     rope_local_base_freq=10000.0, rope_scaling={"rope_type": "linear", "factor": 8.0},
                     gguf_keys={"gemma3.attention.sliding_window_pattern": 3}),
    # The newer form of the settings, a softmax scale that is not 1 / sqrt(head_dim), and the window in the last layer.
    "gemma3-layer-types": family(
        "Gemma3ForCausalLM", "gemma3_text", **GEMMA, gguf=False, sliding_window=12, query_pre_attn_scalar=40,
        layer_types=["full_attention", "sliding_attention"], drop=["rope_theta"], rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}),
    "phi3": family("Phi3ForCausalLM", "phi3", sliding_window=20, tie_word_embeddings=False,
                   original_max_position_embeddings=256, rope_scaling=None),
    # Short factors up to 32 positions, long ones beyond; only three quarters of a head turn.
    "phi3-longrope": family("Phi3ForCausalLM", "phi3", num_attention_heads=2, num_key_value_heads=1,
                            sliding_window=None, original_max_position_embeddings=32, partial_rotary_factor=0.75,
                            runs={24: (0, 7, 23), **LONG}, rope_scaling={
                                "type": "longrope", "short_factor": [1.0, 1.05, 1.1, 1.2, 1.5, 1.75],
                                "long_factor": [1.0, 1.5, 2.25, 4.0, 9.0, 16.0]}),
    "granite": family("GraniteForCausalLM", "granite", embedding_multiplier=6.0, residual_multiplier=0.5,
                      attention_multiplier=0.25, logits_scaling=1.5),
    "granite-moe": family("GraniteMoeForCausalLM", "granitemoe", embedding_multiplier=6.0, residual_multiplier=0.5,
                          attention_multiplier=0.25, logits_scaling=1.5, num_local_experts=4, num_experts_per_tok=2,
                          intermediate_size=16),
    # Short convolutions with one attention layer between; d_ffn follows from block_ff_dim: 2/3 of it, rounded up.
    "lfm2": family("Lfm2ForCausalLM", "lfm2", num_hidden_layers=3, layer_types=["conv", "full_attention", "conv"],
                   drop=["rms_norm_eps", "intermediate_size"], norm_eps=1e-5, conv_bias=False, conv_L_cache=3,
                   block_ff_dim=40, block_auto_adjust_ff_dim=True, block_ffn_dim_multiplier=1.0,
                   block_multiple_of=16),
}

for _name, _entry in FAMILIES.items():
    _entry["seed"] = _entry["seed"] or _name
