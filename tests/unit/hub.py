"""A stand-in for the Hugging Face hub on the loopback interface, and the tiny repositories that it serves."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEXTS = ["the film was good", "a bad film", "good acting and a good plot make the film worth it", "bad"]


class Hub:
    """Serves folders as repositories with the headers that huggingface_hub reads. `requests` keeps what was asked.

    Weights come by a redirect to another address of the server, as from the hub's own store, and in ranges. `cuts`
    are the bytes after which an answer ends, one for each of the next answers with weights; `spoiled` sends other
    bytes of them.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.cuts: list[int] = []
        self.spoiled = False
        self.url = ""

    @contextlib.contextmanager
    def running(self) -> Iterator[Hub]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                hub._answer(self, body=False)

            def do_GET(self) -> None:
                hub._answer(self, body=True)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        self.requests.append((request.command, request.path))
        repository, _, rest = request.path.strip("/").partition("/resolve/")
        name = rest.partition("/")[2].partition("?")[0]
        if repository in self.gated:
            return self._refuse(request, 403, "GatedRepo")
        folder = self.repositories.get(repository)
        if folder is None:
            return self._refuse(request, 401, "RepoNotFound")
        file = folder / name
        if not name or not file.is_file():
            return self._refuse(request, 404, "EntryNotFound")
        content = file.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        stored = "store" in request.path
        if self.spoiled and stored:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if file.suffix == ".safetensors" and not stored:
            request.send_response(302)
            request.send_header("Location", f"{self.url}{request.path}?store=1")
            request.send_header("X-Linked-Size", str(file.stat().st_size))
            request.send_header("X-Linked-Etag", etag)
            request.send_header("X-Repo-Commit", COMMIT)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return None
        asked = request.headers.get("Range")
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        request.send_response(206 if start else 200)
        request.send_header("X-Repo-Commit", COMMIT)
        request.send_header("ETag", etag)
        request.send_header("Content-Length", str(len(content) - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        if body:
            end = start + self.cuts.pop(0) if stored and self.cuts else len(content)
            request.wfile.write(content[start:end])
            request.close_connection = end < len(content)
        return None

    def _refuse(self, request: BaseHTTPRequestHandler, status: int, code: str) -> None:
        request.send_response(status)
        request.send_header("X-Error-Code", code)
        request.send_header("X-Repo-Commit", COMMIT)
        request.send_header("Content-Length", "0")
        request.end_headers()


def closed_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def save_bert_tokenizer(folder: Path, *, limit: int = 64) -> int:
    """A word-piece tokenizer with [CLS] … [SEP] over the words of TEXTS; returns its number of tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for text in TEXTS for word in text.split()})
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=limit, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    ).save_pretrained(folder)  # fmt: skip
    return len(vocabulary)


def save_gpt2_tokenizer(folder: Path, *, limit: int = 64) -> int:
    """A byte-level BPE tokenizer learned from TEXTS, without a padding token as GPT-2's; returns its size."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    learned = ByteLevelBPETokenizer()
    learned.train_from_iterator(TEXTS, vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False)
    PreTrainedTokenizerFast(
        tokenizer_object=learned._tokenizer, model_max_length=limit, eos_token="<|endoftext|>",
        bos_token="<|endoftext|>",
    ).save_pretrained(folder)  # fmt: skip
    return int(learned.get_vocab_size())


def save_tiny_bert(folder: Path, *, limit: int = 64) -> Path:
    """A two-layer BERT with its head of pretraining, as hubs hold them."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    folder.mkdir(parents=True, exist_ok=True)
    tokens = save_bert_tokenizer(folder, limit=limit)
    config = BertConfig(
        vocab_size=tokens, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=limit,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(1)
        BertForMaskedLM(config).save_pretrained(folder)
    return folder


def save_tiny_gpt2(folder: Path, *, limit: int = 64) -> Path:
    """A two-layer GPT-2 with its language head."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    folder.mkdir(parents=True, exist_ok=True)
    tokens = save_gpt2_tokenizer(folder, limit=limit)
    config = GPT2Config(
        vocab_size=tokens, n_embd=32, n_layer=2, n_head=4, n_positions=limit, bos_token_id=0, eos_token_id=0
    )
    with torch.random.fork_rng():
        torch.manual_seed(2)
        GPT2LMHeadModel(config).save_pretrained(folder)
    return folder
