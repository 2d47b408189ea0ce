"""The local model's own process: llama.cpp's OpenAI-compatible server on a free loopback port.

    python -m app.embedded.local_model_process --weights FILE --slots 4 --context 4096

It is a process because llama.cpp holds the interpreter's lock for seconds while it loads, which would stop a Trio loop.
It says where it serves with one JSON line on stdout, `{"address": "http://127.0.0.1:PORT"}`, and ends when stdin does:
the kernel closes that pipe whatever happens to the parent, kill -9 included. SIGINT, SIGTERM and SIGHUP are ignored,
because a terminal sends them to the whole process group and the parent may still drain turns that need the model.
Nothing it writes can block it: stderr does not wait for a reader, and what finds no room there is lost.
"""

import argparse
import json
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Prompt tokens worked on between two looks at the sockets. A client that left is noticed, and other slots get their
# next token, only then: 0.3 s at 200 prompt tokens/s. Prompts are read no slower than with batches of 512.
BATCH_TOKENS = 64
HTTP_THREADS = 32  # each open connection holds one, idle ones too (5 s); the limiter lets in 10 calls by default
MAX_THREADS = 8  # a model this small gains nothing beyond


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until stdin ends; never returns."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.set_blocking(2, False)
    announce = os.dup(1)
    os.dup2(2, 1)  # whatever the library prints must not look like the address
    watcher = threading.Thread(target=_end_with_parent, daemon=True)
    watcher.start()
    server = _serve(_options(arguments))
    os.write(announce, json.dumps({"address": server.listening_address}).encode() + b"\n")
    os.close(announce)
    watcher.join()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve the local model until stdin ends.")
    parser.add_argument("--weights", type=Path, required=True, help="GGUF file")
    parser.add_argument("--slots", type=int, required=True, help="answers at once")
    parser.add_argument("--context", type=int, required=True, help="tokens of one slot: prompt and answer")
    parser.add_argument("--name", required=True, help="model name to answer with")
    return parser.parse_args(arguments)


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)  # the main thread may be inside llama.cpp: nothing to unwind, nothing to save


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: what this process may use, not what the machine has
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _serve(options: argparse.Namespace) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(options.weights)
    params.model_alias = {options.name}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = options.slots
    params.n_ctx = options.slots * options.context
    params.n_batch = params.n_ubatch = BATCH_TOKENS
    params.n_threads_http = HTTP_THREADS
    # 8-bit keys and values: 357 MB resident in all for 4 slots of 4096 tokens, against 544 MB. The price: a prompt is
    # read 20 % slower at 400 tokens, a third slower at 2200. Answers come as fast, and read the same.
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_Q8_0
    params.cache_ram_mib = 0  # the default keeps up to 8 GiB of old prompts
    params.n_ctx_checkpoints = 0
    for threads in (params.cpuparams, params.cpuparams_batch):
        threads.n_threads = min(_cores(), MAX_THREADS)
        threads.poll = 0  # waiting threads sleep: spinning ones take the cores that the server beside us needs
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = 0  # errors only
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
