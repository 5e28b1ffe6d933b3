"""bench/gpu_figures.py on lines as bench/gpu_check's programs print them."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import gpu_figures  # noqa: E402

DEVICE = {"kernel": "device", "shape": "NVIDIA H200, 132 multiprocessors, 60 MB L2"}
CEILING = {"kernel": "read ceiling", "shape": "4 GiB", "us_median": 950.0, "gb_s": 4000}
DECODE = {"kernel": "decode attention", "shape": "batch 1", "us_median": 10.0, "gb_s": 1000}
LIBRARY = {"kernel": "cublaslt", "shape": "512x64x64", "us_median": 2.0, "tflops": 800.0}
PRODUCT = {"kernel": "matmul_hopper", "shape": "512x64x64", "us_median": 4.0, "tflops": 400.0}


def shares_of(*lines):
    texts = gpu_figures.with_shares([json.dumps(line) for line in lines])
    return [json.loads(text).get("of_peak") for text in texts]


class Shares(unittest.TestCase):
    def test_bytes_are_held_to_the_read_ceiling_wherever_it_stands(self):
        copy = CEILING | {"kernel": "copy ceiling", "gb_s": 3000}
        self.assertEqual(shares_of(DECODE, CEILING, copy), [0.25, None, None])

    def test_flops_are_held_to_the_fastest_product(self):
        flash = {"kernel": "prefill attention", "shape": "8 tokens", "tflops": 900.0}
        self.assertEqual(shares_of(LIBRARY, PRODUCT, flash), [1.0, 0.5, 1.125])

    def test_what_the_run_did_not_measure_has_no_shares(self):
        self.assertEqual(shares_of(DECODE, PRODUCT), [None, 1.0])
        self.assertEqual(shares_of(DEVICE, {"check": "values", "good": True}), [None, None])

    def test_lines_keep_their_text_and_get_one_share(self):
        broken = '{"kernel": "decode attention", "max_rel_diff": nan'
        texts = [json.dumps(CEILING), broken, '{"kernel": "x", "shape": "y", "gb_s": 1e3}']
        once = list(gpu_figures.with_shares(texts))
        self.assertEqual(once[:2], texts[:2])
        self.assertEqual(once[2], '{"kernel": "x", "shape": "y", "gb_s": 1e3, "of_peak": 0.25}')
        self.assertEqual(list(gpu_figures.with_shares(once)), once)

    def test_the_worst_are_of_our_own_chosen_kernels(self):
        other = PRODUCT | {"kernel": "matmul_hopper (not chosen)", "of_peak": 0.1}
        lines = [LIBRARY | {"of_peak": 0.2}, other, PRODUCT | {"of_peak": 0.5}, DEVICE,
                 DECODE | {"of_peak": 0.25}]
        self.assertEqual([line["of_peak"] for line in gpu_figures.worst(lines)], [0.25, 0.5])
        self.assertEqual(len(gpu_figures.worst([lines[2]] * 12)), 10)


class Regressions(unittest.TestCase):
    def test_what_takes_over_three_percent_longer_is_listed_the_worst_first(self):
        rows = gpu_figures.slower({"a": 103.0, "b": 104.0, "c": 120.0, "new": 9.0, "d": 50.0},
                                  {"a": 100.0, "b": 100.0, "c": 100.0, "old": 1.0, "d": 100.0})
        self.assertEqual([row[1:] for row in rows], [("c", 100.0, 120.0), ("b", 100.0, 104.0)])

    def test_steps_are_told_apart_by_the_model_that_was_started_before(self):
        step = {"kernel": "decode", "shape": "batch 1"}
        lines = []
        for model, us in (("bf16", 4.0), ("fp8", 7.0), ("bf16", 5.0)):
            lines += [{"kernel": "start", "shape": model, "us_median": 1.0},
                      step | {"us_median": us}]
        taken = gpu_figures.times(lines)
        self.assertEqual(taken["decode, bf16, batch 1"], 4.0)
        self.assertEqual(taken["decode, fp8, batch 1"], 7.0)

    def test_products_are_told_apart_by_their_types(self):
        product = {"kernel": "matmul_quantised", "shape": "1x64x64"}
        taken = gpu_figures.times([product | {"dtype": "q8_0", "us_median": 9.0},
                                   product | {"dtype": "i4_by_128", "us_median": 4.0}])
        self.assertEqual(sorted(taken.values()), [4.0, 9.0])

    def test_only_figures_of_the_same_kind_of_gpu_are_compared(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "h200.jsonl").write_text(json.dumps({"machine": "a text"}) + "\n" +
                                               json.dumps(DEVICE) + "\n" + json.dumps(DECODE))
            path, lines = gpu_figures.committed("NVIDIA H200", folder)
            self.assertEqual((path.name, lines[-1]), ("h200.jsonl", DECODE))
            self.assertIsNone(gpu_figures.committed("NVIDIA H100 80GB HBM3", folder))
            self.assertIsNone(gpu_figures.committed("", folder))

    def test_a_run_is_the_lines_behind_those_of_earlier_ones(self):
        committed = (ROOT / "bench/results/h200.jsonl").read_text().splitlines()
        slow = json.loads(next(text for text in committed if '"decode attention"' in text
                               and '"us_median"' in text))
        slow.pop("of_peak", None)
        slow["us_median"] = round(slow["us_median"] * 1.5, 2)
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "figures.jsonl"
            file.write_text("".join(json.dumps(line) + "\n"
                                    for line in (CEILING, DEVICE, slow, CEILING | {"gb_s": 8000})))
            command = [sys.executable, ROOT / "bench/gpu_figures.py", file, "--from", "1"]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            lines = [json.loads(text) for text in file.read_text().splitlines()]
        self.assertEqual(lines[2]["of_peak"], round(slow["gb_s"] / 8000, 3))
        self.assertIn(f"+50.0%  decode attention, {slow['shape']}", told)
        self.assertIn("h200.jsonl, of 2 figures", told)


if __name__ == "__main__":
    unittest.main()
