"""Times two files beside each other with the onnxruntime at hand, and scores the second.

A script of its own, run as `python runtime_timing.py FLOAT INT8 DATA SAMPLES` in environments that
hold onnxruntime and numpy alone. Prints JSON: how many times as fast the second file is on one
sample and one thread, and the share of samples whose largest score is that of the label, of both.
"""

import json
import statistics
import sys
import time

import numpy as np
import onnxruntime

_ROUNDS = 30


def session(path: str) -> onnxruntime.InferenceSession:
    """One thread, all optimizations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main(original: str, small: str, data: str, samples: str) -> None:
    """Times in turns, then scores."""
    sessions = [session(original), session(small)]
    with np.load(data) as arrays:
        labels = arrays["labels"][: int(samples)]
        feeds = {each.name: arrays[each.name][: int(samples)] for each in sessions[0].get_inputs()}
    first = {name: values[:1] for name, values in feeds.items()}
    seconds: list[list[float]] = [[], []]
    for _ in range(_ROUNDS):
        for each, spent in zip(sessions, seconds, strict=True):
            began = time.perf_counter()
            each.run(None, first)
            spent.append(time.perf_counter() - began)
    ratios = [before / after for before, after in zip(*seconds, strict=True)]
    hits = [0, 0]
    for index, label in enumerate(labels):
        sample = {name: values[index : index + 1] for name, values in feeds.items()}
        for place, each in enumerate(sessions):
            hits[place] += int(np.argmax(each.run(None, sample)[0]) == label)
    found = {"speedup": statistics.median(ratios), "top1": [each / len(labels) for each in hits]}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
