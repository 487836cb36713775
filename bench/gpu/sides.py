"""What the scripts here share: times of PyTorch in a CUDA graph, ours of a model's plan, and a line of JSON a figure."""
import json, subprocess
import torch


def graph_time(fn, inner=10, reps=20):
    """The median time of a call in ms, where graphs of so many follow each other."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        fn()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(inner):
            fn()
    graph.replay()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(reps)]
    for start, end in events:
        start.record(), graph.replay(), end.record()
    torch.cuda.synchronize()
    return sorted(start.elapsed_time(end) / inner for start, end in events)[reps // 2]


def emit(suite, name, peer, ms, note):
    print(json.dumps(dict(suite=suite, name=name, peer=peer, ms=ms, note=note)), flush=True)


def ours(suite, name, tool, path, precision, calls=1, checked=True):
    """Emits the time of a model's plan by estimates, or of one of its calls, and its error against the results beside the model if it is checked."""
    command = [tool, "wpk", "bench", "--json", "--seconds", "0.1", path, "--gpu", "sm_90a", "--device", "0", "--precision", precision]
    done = subprocess.run(command + ["--check", "3"] * checked, capture_output=True, text=True)
    if done.returncode:
        return emit(suite, name, "wpk-heuristic", None, done.stderr.strip()[-200:])
    found = json.loads(done.stdout)
    note = f"relative error {found['outputs'][0]['error']:.2e}" if checked else ""
    emit(suite, name, "wpk-heuristic", found["replays"]["median_ms"] / calls, note)
