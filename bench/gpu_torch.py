"""What PyTorch's attention and matrix products reach on this GPU: the peer for bench/gpu_check."""

import json
import statistics
import sys

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    print(json.dumps({"kernel": "torch", "shape": "not installed"}))
    sys.exit(0)


def median_us(work, runs=20):
    for _ in range(3):
        work()
    taken = []
    for _ in range(runs):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        taken.append(begin.elapsed_time(end) * 1e3)
    return statistics.median(taken)


def report(kernel, shape, us, flops):
    print(json.dumps({"kernel": kernel, "shape": shape, "us_median": round(us, 1),
                      "tflops": round(flops / us / 1e6, 1)}), flush=True)


def main():
    print(json.dumps({"kernel": "torch", "shape": torch.__version__}))
    make = lambda *shape: torch.randn(*shape, device="cuda", dtype=torch.bfloat16)
    for tokens in (512, 2048, 8192):
        q, k, v = make(1, 32, tokens, 128), make(1, 8, tokens, 128), make(1, 8, tokens, 128)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
            us = median_us(lambda: F.scaled_dot_product_attention(
                q, k, v, is_causal=True, enable_gqa=True))
        report("torch flash attention, causal", f"{tokens} tokens, 32/8 heads of 128", us,
               2 * 2 * 32 * 128 * tokens * tokens / 2)
    for rows, n, k in ((2048, 6144, 4096), (2048, 28672, 4096), (2048, 4096, 14336),
                       (8192, 8192, 8192)):
        x, w = make(rows, k), make(n, k)
        report("torch matmul", f"{rows} x {n} x {k}", median_us(lambda: x @ w.T), 2 * rows * n * k)


if __name__ == "__main__":
    main()
