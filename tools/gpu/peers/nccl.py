"""What PyTorch with NCCL takes to move the bytes of the same rounds, for figures to be held against.

all_to_all: each rank sends each other one the rows that random routing would send it, and gets as many results back.
all-gather, reduce-scatter: every rank gets all tokens, and the sums of all results come back.
20 rounds in one CUDA graph, as in the benchmark; the median of the slowest rank, in µs. Prints JSON.

  python3 nccl.py [--ranks N] [--samples N]
"""

import argparse
import json
import math
import os
import statistics
import sys

ROUNDS = 20
WARM_UP = 3
# Name, hidden size, experts per token, experts, tokens per rank.
SHAPES = [
    ("deepseek", 7168, 8, 256, [1, 32, 128, 512, 4096, 8192]),
    ("qwen3", 4096, 8, 128, [1, 32, 128, 512, 4096]),
    ("gpt-oss", 2880, 4, 128, [1, 32, 128, 512, 4096]),
]


def rows_per_peer(tokens, top_k, experts, ranks):
    """Rows that a rank sends each other one, on average, rounded up."""
    own = experts // ranks
    return math.ceil(tokens * (1 - math.comb(experts - own, top_k) / math.comb(experts, top_k)))


def all_to_all(torch, dist, shape, tokens, ranks):
    _, hidden, top_k, experts, _ = shape
    rows = rows_per_peer(tokens, top_k, experts, ranks)
    sent_bytes, back_bytes = hidden * 2 + top_k * 8, hidden * 2
    sent, received = (torch.zeros(ranks * rows * sent_bytes, dtype=torch.uint8, device="cuda") for _ in range(2))
    results, back = (torch.zeros(ranks * rows * back_bytes, dtype=torch.uint8, device="cuda") for _ in range(2))

    def play():
        dist.all_to_all_single(received, sent)
        dist.all_to_all_single(back, results)

    return play


def gather_scatter(torch, dist, shape, tokens, ranks):
    _, hidden, top_k, _, _ = shape
    row_bytes = hidden * 2 + top_k * 8
    own = torch.zeros(tokens * row_bytes, dtype=torch.uint8, device="cuda")
    everything = torch.zeros(ranks * tokens * row_bytes, dtype=torch.uint8, device="cuda")
    results = torch.zeros(ranks * tokens, hidden, dtype=torch.bfloat16, device="cuda")
    sums = torch.zeros(tokens, hidden, dtype=torch.bfloat16, device="cuda")

    def play():
        dist.all_gather_into_tensor(everything, own)
        dist.reduce_scatter_tensor(sums, results)

    return play


def time_rounds(torch, dist, play, samples):
    for _ in range(WARM_UP):
        play()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        for _ in range(ROUNDS):
            play()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    times = []
    for sample in range(-WARM_UP, samples):
        dist.barrier()
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        slowest = torch.tensor([start.elapsed_time(end) * 1000 / ROUNDS], device="cuda")
        dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
        if sample >= 0:
            times.append(slowest.item())
    return round(statistics.median(times), 2)


def work(rank, ranks, port, samples):
    import torch
    import torch.distributed as dist

    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    rows = []
    for shape in SHAPES:
        for tokens in shape[4]:
            row = {"shape": shape[0], "tokens": tokens}
            for name, make in (("allToAll", all_to_all), ("gatherScatter", gather_scatter)):
                row[name] = time_rounds(torch, dist, make(torch, dist, shape, tokens, ranks), samples)
                torch.cuda.empty_cache()
            rows.append(row)
    if rank == 0:
        version = ".".join(map(str, torch.cuda.nccl.version()))
        print(json.dumps({"torch": torch.__version__, "nccl": version, "ranks": ranks, "rows": rows}), flush=True)
    # Graphs with collectives in them keep the group from ending in order.
    os._exit(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int)
    parser.add_argument("--samples", type=int, default=15)
    options = parser.parse_args()
    # Multicast is not to be used on shared hosts.
    os.environ["NCCL_NVLS_ENABLE"] = "0"
    os.environ["TORCH_NCCL_ASYNC_ERROR_HANDLING"] = "0"
    try:
        import torch
        import torch.multiprocessing as multiprocessing
    except ImportError as error:
        sys.exit(f"there is no PyTorch: {error}")
    ranks = options.ranks or torch.cuda.device_count()
    port = 20000 + os.getpid() % 20000
    multiprocessing.spawn(work, (ranks, port, options.samples), nprocs=ranks)


if __name__ == "__main__":
    main()
