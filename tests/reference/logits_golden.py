#!/usr/bin/env python3
"""Makes tests/reference/logits_<model>.bin: what the logits should be, and how near a peer comes.

    python -m venv v; v/bin/pip install numpy gguf llama-cpp-python
    v/bin/python tests/reference/logits_golden.py MODEL.gguf NAME

For 20 prompts of 4 to 400 tokens it runs a forward pass of its own in float32 over the dequantised
weights (numpy, below: an independent reading of the architectures, not a port of ours) and keeps,
at up to 24 positions a prompt, the 64 likeliest tokens with their log-probabilities, and what the
peer (llama-cpp-python, the same GGUF) gives those same tokens.

File, little endian, 4-byte words: magic "CLG1"; prompts; for each prompt: tokens n, positions m,
ids[n], then for each position: index, ids[64], log-probabilities f32[64], peer's f32[64].
"""
import struct
import sys

import gguf
import numpy as np
from llama_cpp import Llama

TOP = 64
POSITIONS = 24

TEXTS = [
    "The capital of France is",
    "def fibonacci(n):\n    if n < 2:\n        return n\n",
    "Once upon a time, in a village by the sea, there lived an old fisherman who",
    "2 + 2 = 4\n3 + 5 = 8\n7 + 6 = ",
    "Der schnelle braune Fuchs springt über den faulen Hund. Danach",
    "<html>\n<head><title>Test</title></head>\n<body>\n",
    "Q: What is the boiling point of water?\nA:",
    "東京は日本の首都です。大阪は",
    "SELECT name, COUNT(*) FROM users WHERE",
    "La inteligencia artificial es una rama de la informática que",
    "Dear Sir or Madam,\n\nI am writing to you in order to",
    "import numpy as np\n\nx = np.arange(10)\nprint(",
    "To be, or not to be, that is the question: Whether 'tis nobler in the mind to suffer",
    "The mitochondria is the powerhouse of the cell. It produces",
    "- apples\n- pears\n- bananas\n-",
    "{\"name\": \"Alice\", \"age\": 30, \"city\":",
]
LONG = (
    "In the early days of computing, programs were written on punched cards and handed to an "
    "operator, who ran them in batches overnight. A misplaced comma cost a day. When time sharing "
    "came, many people could sit at terminals and use the same machine at once, each believing to "
    "have it alone. Operating systems learned to divide memory, processor time and disks fairly, "
    "and programmers learned that a machine which waits is a machine which is wasted. The personal "
    "computer turned this around: the machine could wait, the person should not. Then networks "
    "joined the machines again, and the old questions of sharing came back in new clothes. Who may "
    "use how much, who goes first, and what happens when a part fails while the rest goes on? "
    "A language model server meets all of them in one second: requests arrive at any moment, each "
    "with a prompt of its own length; the weights are read once for all who are being served; a "
    "client that goes away must not hold its place; and every answer must be the same whether the "
    "house is full or empty. The craft is old even where the subject is new. "
)


def prompts(tokenize):
    ids = [tokenize(text) for text in TEXTS]
    long = tokenize(LONG * 3)
    ids += [long[:n] for n in (96, 160, 256, 400)]
    ids[0] = ids[0][:4]
    return ids


class Weights:
    """Tensors of a GGUF file in float32, dequantised when asked for."""

    def __init__(self, path):
        self.reader = gguf.GGUFReader(path)
        self.tensors = {t.name: t for t in self.reader.tensors}
        self.arch = self.value("general.architecture")

    def value(self, key, default=None):
        field = self.reader.fields.get(key.replace("{}", getattr(self, "arch", "")))
        return default if field is None else field.contents()

    def __contains__(self, name):
        return name in self.tensors

    def __getitem__(self, name):
        tensor = self.tensors[name]
        data = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        return data.astype(np.float32).reshape(tuple(reversed(tensor.shape.tolist())))


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(eps)) * weight


def rotate(x, base, pairs):
    """x [tokens, heads, dim]. `pairs`: neighbours turn together (GGUF's Llama), else halves."""
    tokens, _, dim = x.shape
    angle = np.arange(tokens)[:, None] * base ** (-np.arange(0, dim, 2) / dim)
    cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
    a, b = (x[..., 0::2], x[..., 1::2]) if pairs else (x[..., : dim // 2], x[..., dim // 2 :])
    turned = a * cos - b * sin, a * sin + b * cos
    out = np.empty_like(x)
    if pairs:
        out[..., 0::2], out[..., 1::2] = turned
    else:
        out[..., : dim // 2], out[..., dim // 2 :] = turned
    return out


def forward(w, all_ids):
    """Logits [tokens, vocabulary] per prompt, float32."""
    arch = w.arch
    layers = w.value("{}.block_count")
    heads, kv_heads = w.value("{}.attention.head_count"), w.value("{}.attention.head_count_kv")
    hidden = w.value("{}.embedding_length")
    dim = w.value("{}.attention.key_length", hidden // heads)
    eps = w.value("{}.attention.layer_norm_rms_epsilon")
    base = w.value("{}.rope.freq_base", 10000.0)
    window = w.value("{}.attention.sliding_window", 0)
    gemma = arch == "gemma3"
    table = w["token_embd.weight"]
    xs = [table[ids] * np.float32(np.sqrt(hidden) if gemma else 1) for ids in all_ids]
    output = w["output.weight"] if "output.weight" in w else table

    for layer in range(layers):
        t = lambda name: w[f"blk.{layer}.{name}"]
        sliding = gemma and (layer + 1) % 6 != 0
        matrices = {n: t(f"{n}.weight") for n in
                    ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")}
        norms = {n: t(f"{n}.weight") for n in
                 ("attn_norm", "ffn_norm", "attn_q_norm", "attn_k_norm", "post_attention_norm",
                  "post_ffw_norm") if f"blk.{layer}.{n}.weight" in w}
        bias = {n: t(f"{n}.bias") for n in ("attn_q", "attn_k", "attn_v")
                if f"blk.{layer}.{n}.bias" in w}
        for i, x in enumerate(xs):
            h = rms_norm(x, norms["attn_norm"], eps)
            q, k, v = (h @ matrices[n].T + bias.get(n, np.float32(0))
                       for n in ("attn_q", "attn_k", "attn_v"))
            q, k = q.reshape(-1, heads, dim), k.reshape(-1, kv_heads, dim)
            v = v.reshape(-1, kv_heads, dim)
            if gemma:
                q = rms_norm(q, norms["attn_q_norm"], eps)
                k = rms_norm(k, norms["attn_k_norm"], eps)
            theta = 10000.0 if sliding else base
            q, k = rotate(q, theta, arch == "llama"), rotate(k, theta, arch == "llama")
            n = len(x)
            distance = np.arange(n)[:, None] - np.arange(n)[None, :]
            hidden_from = (distance < 0) | ((distance >= window) if sliding else False)
            attended = np.empty_like(q)
            for head in range(heads):
                group = head * kv_heads // heads
                scores = (q[:, head] @ k[:, group].T) / np.float32(np.sqrt(dim))
                scores[hidden_from] = -np.inf
                p = np.exp(scores - scores.max(axis=1, keepdims=True))
                attended[:, head] = (p / p.sum(axis=1, keepdims=True)) @ v[:, group]
            a = attended.reshape(n, -1) @ matrices["attn_output"].T
            x = x + (rms_norm(a, norms["post_attention_norm"], eps) if gemma else a)
            h = rms_norm(x, norms["ffn_norm"], eps)
            gate, up = h @ matrices["ffn_gate"].T, h @ matrices["ffn_up"].T
            if gemma:
                gate = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
            else:
                gate = gate / (1 + np.exp(-gate))
            f = (gate * up).astype(np.float32) @ matrices["ffn_down"].T
            x = x + (rms_norm(f, norms["post_ffw_norm"], eps) if gemma else f)
            xs[i] = x.astype(np.float32)
    norm = w["output_norm.weight"]
    for x in xs:
        yield rms_norm(x, norm, eps) @ output.T


def log_softmax(logits):
    logits = logits.astype(np.float64)
    top = logits.max(axis=-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))


def main():
    path, name = sys.argv[1:3]
    peer = Llama(path, n_ctx=512, n_batch=512, logits_all=True, verbose=False)
    tokenize = lambda text: peer.tokenize(text.encode(), add_bos=name == "gemma3", special=False)
    all_ids = prompts(tokenize)
    out = bytearray(b"CLG1") + struct.pack("<i", len(all_ids))
    divergence = []
    for ids, logits in zip(all_ids, forward(Weights(path), all_ids)):
        expected = log_softmax(logits)
        peer.reset()
        peer.eval(ids)
        theirs = log_softmax(np.array(peer.scores[: len(ids)]))
        n = len(ids)
        positions = sorted({round(i) for i in np.linspace(0, n - 1, min(n, POSITIONS))})
        out += struct.pack("<ii", n, len(positions)) + np.array(ids, "<i4").tobytes()
        for p in positions:
            top = np.argsort(-expected[p], kind="stable")[:TOP]
            out += struct.pack("<i", p) + top.astype("<i4").tobytes()
            out += expected[p][top].astype("<f4").tobytes() + theirs[p][top].astype("<f4").tobytes()
            rest = lambda lp: np.log(max(1e-12, 1 - np.exp(lp[p][top]).sum()))
            divergence.append((np.exp(expected[p][top]) * (expected[p][top] - theirs[p][top])).sum()
                              + np.exp(rest(expected)) * (rest(expected) - rest(theirs)))
    with open(f"tests/reference/logits_{name}.bin", "wb") as file:
        file.write(out)
    print(f"{name}: {len(all_ids)} prompts of {min(map(len, all_ids))} to {max(map(len, all_ids))} "
          f"tokens, {len(divergence)} positions, peer's mean KL {np.mean(divergence):.3e}, "
          f"{len(out)} bytes")


if __name__ == "__main__":
    main()
