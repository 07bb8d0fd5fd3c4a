"""Readers for tests: a tagger whose outputs are colours and edges of the picture, a tiny BLIP of random weights."""

import csv
from pathlib import Path

SIDE_PX = 24
TAGS = (
    ("general", 9),
    ("blue_ground", 0),
    ("green_ground", 0),
    ("red_ground", 0),
    ("^_^", 0),
    ("left_side_(place)", 0),
    ("some_hero", 4),
)
"""Outputs of the network: brightness of the top row, means of the channels as they come, top row, left column, top
row; so `blue_ground` is blue only if channels are BGR, and the rest is right only if they come last."""

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "a", "girl", "cat", "with", "hair", "hat", ".")


def write_tagger(
    folder: Path,
    *,
    batch: int | str = "batch",
    side: int | str = SIDE_PX,
    channels_first: bool = False,
    scale: float = 1 / 255,
    tags: tuple[tuple[str, int], ...] = TAGS,
) -> Path:
    """Write `model.onnx` and `selected_tags.csv` (opset 17)."""
    from onnx import TensorProto, helper, save

    shape = [batch, 3, side, side] if channels_first else [batch, side, side, 3]
    node = helper.make_node
    nodes = [
        node("Mul", ["picture", "scale"], ["scaled"]),
        node("ReduceMean", ["scaled"], ["channels"], axes=[1, 2], keepdims=0),
        node("Slice", ["scaled", "zero", "one", "one"], ["rows"]),
        node("ReduceMean", ["rows"], ["top_flat"], axes=[1, 2, 3], keepdims=0),
        node("Unsqueeze", ["top_flat", "one"], ["top"]),
        node("Slice", ["scaled", "zero", "one", "two"], ["columns"]),
        node("ReduceMean", ["columns"], ["left_flat"], axes=[1, 2, 3], keepdims=0),
        node("Unsqueeze", ["left_flat", "one"], ["left"]),
        node("Concat", ["top", "channels", "top", "left", "top"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, None])],
        [
            helper.make_tensor("scale", TensorProto.FLOAT, [], [scale]),
            helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("two", TensorProto.INT64, [1], [2]),
        ],
    )
    folder.mkdir(parents=True, exist_ok=True)
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(folder / "model.onnx")
    )
    with (folder / "selected_tags.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["tag_id", "name", "category", "count"])
        writer.writerows([number, name, category, 1] for number, (name, category) in enumerate(tags))
    return folder


def write_captioner(folder: Path, *, seed: int = 0) -> Path:
    """Write a BLIP of random weights, as transformers saves it."""
    import torch
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = {**sizes, **ends, "vocab_size": len(WORDS), "encoder_hidden_size": 32, "max_position_embeddings": 64}
    config = BlipConfig(text_config=text, vision_config={**sizes, "image_size": 32, "patch_size": 16})
    torch.manual_seed(seed)
    network = BlipForConditionalGeneration(config)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    network.save_pretrained(folder)
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)})
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def put_in_hub_cache(cache: Path, hub_id: str, folder: Path) -> None:
    """Lay a model's files where huggingface_hub keeps what it has fetched."""
    commit = "0" * 40
    home = cache / f"models--{hub_id.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    snapshot = home / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for file in folder.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
