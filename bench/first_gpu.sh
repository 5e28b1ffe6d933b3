B=build/gpu/bin
python3 -c 'print()' ; nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader; ldd --version | head -1
timeout 40 $B/gpu_ceilings 2>&1 | tee $OUT/ceilings.txt
$B/decode_bench --make tiny /tmp/tiny
for o in bf16 f16 f32; do timeout 30 $B/decode_bench /tmp/tiny --device cuda --operand $o --tokens 6 2>&1; done
timeout 30 $B/decode_bench /tmp/tiny --device cpu --tokens 6 2>&1
(time timeout 80 $B/decode_bench --make llama-8b /tmp/8b) 2>&1 | grep real
timeout 70 $B/decode_bench /tmp/8b --device cuda --ceiling 4300 --batches 1,8,64 --contexts 128,512 --prompts 512,2048 --steps 32 2>&1 | tee $OUT/decode.txt
for t in rows "rms*" ; do :; done
(timeout 60 $B/device_test -d yes 2>&1 | tail -c 6000) | tee $OUT/tests.txt | tail -c 3500
(timeout 50 $B/matmul_hopper_check 2>&1) | tee $OUT/hopper.txt | tail -n 25 | cut -c1-170
(timeout 50 $B/attention_check 2>&1) | tee $OUT/attention.txt | tail -n 30 | cut -c1-170
