"""How much a student computes: what a share of the machine's limit is reckoned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["count_int8_operations"]


def count_int8_operations(model: Path, tokens: int) -> int:
    """Multiplications and additions of int8 numbers for one article.

    The graph itself is run on an article of that length and every int8 product asked for its shape, so
    that what is computed for the first token alone counts once. Attention and all else is float and does
    not count.

    Args:
        model: an int8 graph, as `quantize_int8` writes it.
        tokens: T, length of the article.
    """
    import onnx

    from newsie.inference.student import import_onnxruntime

    graph = onnx.load(model)
    products = [node for node in graph.graph.node if node.op_type == "MatMulIntegerToFloat"]
    depth = {tensor.name: tensor.dims[0] for tensor in graph.graph.initializer if tensor.dims}
    del graph.graph.output[:]
    graph.graph.output.extend(onnx.ValueInfoProto(name=node.output[0]) for node in products)
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    ids = np.ones((1, tokens), np.int64)
    found = session.run(None, {"input_ids": ids, "attention_mask": ids})
    return sum(
        2 * out.size * depth[node.input[1]] for node, out in zip(products, found, strict=True)
    )
