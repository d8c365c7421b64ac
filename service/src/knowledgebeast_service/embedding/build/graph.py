"""BERT encoder with mean pooling as an ONNX graph, written node by node from a table of weights.

No torch: the network is small and its shape is fixed (Devlin et al. 2018, all-MiniLM-L6-v2: 6 layers, 12 heads, 384
wide). Pooling over the mask and L2 normalisation (Reimers & Gurevych 2019) are part of the graph, so that a caller
cannot forget them. Batch and length are dynamic.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 20  # the first with Gelu as an operator of its own
IR_VERSION = 10
RECIPE = "bert-mean-l2/1"  # part of the model hash: raise it when the vectors change
MASKED_SCORE = -1e9  # added before softmax where the mask is 0
MIN_NORM = 1e-12
MIN_TOKENS = 1e-9

# int8 weights stay within 7 bits: without VNNI a CPU adds two products of 8 bits in 16 and saturates, and the vectors
# of two machines would differ.
INT8_LIMIT = 63

Weights = Mapping[str, NDArray[np.float32]]
Precision = Literal["fp32", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")


@dataclass(frozen=True)
class BertShape:
    """What the config of the checkpoint says about its size."""

    layers: int = 6
    heads: int = 12
    width: int = 384
    layer_norm_epsilon: float = 1e-12

    @property
    def head_width(self) -> int:
        return self.width // self.heads


@dataclass
class _Graph:
    """Nodes and constants in the order in which they are added."""

    precision: Precision = "fp32"
    nodes: list[onnx.NodeProto] = field(default_factory=list[onnx.NodeProto])
    constants: list[onnx.TensorProto] = field(default_factory=list[onnx.TensorProto])

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def add(self, operator: str, output: str, *inputs: str, **attributes: int | float | list[int]) -> str:
        node = helper.make_node(operator, list(inputs), [output], name=output)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)
        return output

    def linear(self, output: str, inputs: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        """Affine map x W + b with `weight` of shape (in, out)."""
        product = self._product(f"{output}.matmul", inputs, f"{output}.weight", weight)
        return self.add("Add", output, product, self.constant(f"{output}.bias", bias))

    def _product(self, output: str, inputs: str, name: str, weight: NDArray[np.float32]) -> str:
        """A matrix product; in int8 of what is quantised at run time, with a scale for each column of the weight."""
        if self.precision == "fp32":
            return self.add("MatMul", output, inputs, self.constant(name, weight))
        quantised, scale, zero = (f"{output}.input{part}" for part in ("", ".scale", ".zero"))
        self.nodes.append(helper.make_node("DynamicQuantizeLinear", [inputs], [quantised, scale, zero]))
        integers, scales = quantise(weight, axis=0)
        product = self.add("MatMulInteger", f"{output}.int32", quantised, self.constant(name, integers), zero)
        both = self.add("Mul", f"{output}.scale", scale, self.constant(f"{name}.scale", scales.ravel()))
        return self.add("Mul", output, self.add("Cast", f"{output}.fp32", product, to=TensorProto.FLOAT), both)

    def rows(self, output: str, table: NDArray[np.float32], indices: str) -> str:
        """Rows of a table; in int8 with a scale for each row."""
        if self.precision == "fp32":
            return self.add("Gather", output, self.constant(f"{output}.table", table), indices)
        integers, scales = quantise(table, axis=1)
        found = self.add("Gather", f"{output}.int8", self.constant(f"{output}.table", integers), indices)
        scale = self.add("Gather", f"{output}.scale", self.constant(f"{output}.scales", scales), indices)
        return self.add("Mul", output, self.add("Cast", f"{output}.fp32", found, to=TensorProto.FLOAT), scale)

    def layer_norm(self, output: str, inputs: str, weights: Weights, prefix: str, epsilon: float) -> str:
        scale = self.constant(f"{output}.scale", weights[f"{prefix}.LayerNorm.weight"])
        shift = self.constant(f"{output}.shift", weights[f"{prefix}.LayerNorm.bias"])
        return self.add("LayerNormalization", output, inputs, scale, shift, axis=-1, epsilon=epsilon)


def quantise(values: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric integers within INT8_LIMIT and the scales that undo them; a scale spans `axis`."""
    largest = np.abs(values).max(axis=axis, keepdims=True)
    scales = (np.maximum(largest, np.finfo(np.float32).tiny) / INT8_LIMIT).astype(np.float32)
    return np.rint(values / scales).astype(np.int8), scales


def build_encoder(weights: Weights, shape: BertShape, precision: Precision = "fp32") -> onnx.ModelProto:
    """The whole encoder; int8 quantises the weights here and the inputs of each product at run time.

    Inputs `input_ids` and `attention_mask`, both int64 (batch, tokens); output `embedding`, float32 (batch, width).
    """
    graph = _Graph(precision)
    mask = graph.add("Cast", "mask", "attention_mask", to=TensorProto.FLOAT)
    hidden = _embeddings(graph, weights, shape)
    bias = _attention_bias(graph, mask)
    for layer in range(shape.layers):
        hidden = _layer(graph, weights, shape, f"encoder.layer.{layer}", hidden, bias)
    _pool(graph, hidden, mask)
    dynamic = ["batch", "tokens"]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "bert_mean_pooling",
            [
                helper.make_tensor_value_info("input_ids", TensorProto.INT64, dynamic),
                helper.make_tensor_value_info("attention_mask", TensorProto.INT64, dynamic),
            ],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", shape.width])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="knowledgebeast",
    )
    onnx.checker.check_model(model, full_check=True)  # pyright: ignore[reportUnknownMemberType]
    return model


def _embeddings(graph: _Graph, weights: Weights, shape: BertShape) -> str:
    # There is one segment only, so its row is added to every position once and for all.
    positions = weights["embeddings.position_embeddings.weight"]
    segment = weights["embeddings.token_type_embeddings.weight"][0]
    table = graph.constant("positions.table", positions + segment)
    shape_of_ids = graph.add("Shape", "ids.shape", "input_ids", start=1, end=2)
    zero = graph.constant("zero", np.array([0], dtype=np.int64))
    position = graph.add("Slice", "positions", table, zero, shape_of_ids)
    words = graph.rows("words", weights["embeddings.word_embeddings.weight"], "input_ids")
    summed = graph.add("Add", "embeddings.sum", words, position)
    return graph.layer_norm("embeddings", summed, weights, "embeddings", shape.layer_norm_epsilon)


def _attention_bias(graph: _Graph, mask: str) -> str:
    """0 where a token may be looked at, a large negative number where it is padding: (batch, 1, 1, tokens)."""
    one = graph.constant("one", np.array(1.0, dtype=np.float32))
    masked = graph.add("Sub", "padding", one, mask)
    scaled = graph.add(
        "Mul", "padding.score", masked, graph.constant("masked", np.array(MASKED_SCORE, dtype=np.float32))
    )
    return graph.add("Unsqueeze", "bias", scaled, graph.constant("axes", np.array([1, 2], dtype=np.int64)))


def _layer(graph: _Graph, weights: Weights, shape: BertShape, name: str, hidden: str, bias: str) -> str:
    attended = _attention(graph, weights, shape, f"{name}.attention", hidden, bias)
    residual = graph.add("Add", f"{name}.attention.residual", attended, hidden)
    hidden = graph.layer_norm(
        f"{name}.attention.norm", residual, weights, f"{name}.attention.output", shape.layer_norm_epsilon
    )
    inner = _dense(graph, weights, f"{name}.intermediate.dense", hidden)
    activated = graph.add("Gelu", f"{name}.gelu", inner)
    outer = _dense(graph, weights, f"{name}.output.dense", activated)
    residual = graph.add("Add", f"{name}.residual", outer, hidden)
    return graph.layer_norm(f"{name}.norm", residual, weights, f"{name}.output", shape.layer_norm_epsilon)


def _dense(graph: _Graph, weights: Weights, name: str, inputs: str) -> str:
    return graph.linear(name, inputs, weights[f"{name}.weight"].T, weights[f"{name}.bias"])


def _attention(graph: _Graph, weights: Weights, shape: BertShape, name: str, hidden: str, bias: str) -> str:
    """Multi-head self-attention; the three projections are one matrix product."""
    parts = ("query", "key", "value")
    # Scaling the query's weights by 1/sqrt(d) once saves a pass over every score matrix.
    scales = (np.float32(shape.head_width**-0.5), np.float32(1), np.float32(1))
    weight = [weights[f"{name}.self.{part}.weight"].T * scale for part, scale in zip(parts, scales, strict=True)]
    offset = [weights[f"{name}.self.{part}.bias"] * scale for part, scale in zip(parts, scales, strict=True)]
    projected = graph.linear(f"{name}.qkv", hidden, np.concatenate(weight, axis=1), np.concatenate(offset))
    split_shape = graph.constant(f"{name}.split", np.array([0, 0, 3, shape.heads, shape.head_width], dtype=np.int64))
    split = graph.add("Reshape", f"{name}.heads", projected, split_shape)
    # (batch, tokens, 3, heads, d) to (3, batch, heads, tokens, d)
    turned = graph.add("Transpose", f"{name}.turned", split, perm=[2, 0, 3, 1, 4])
    query, key, value = (
        graph.add("Gather", f"{name}.{part}", turned, graph.constant(f"{name}.{part}.index", np.array(i)), axis=0)
        for i, part in enumerate(parts)
    )
    turned_key = graph.add("Transpose", f"{name}.key.turned", key, perm=[0, 1, 3, 2])
    scores = graph.add("MatMul", f"{name}.scores", query, turned_key)
    masked = graph.add("Add", f"{name}.masked", scores, bias)
    shares = graph.add("Softmax", f"{name}.shares", masked, axis=-1)
    context = graph.add("MatMul", f"{name}.context", shares, value)
    joined = graph.add("Transpose", f"{name}.joined", context, perm=[0, 2, 1, 3])
    flat = graph.add(
        "Reshape",
        f"{name}.flat",
        joined,
        graph.constant(f"{name}.flat.shape", np.array([0, 0, shape.width], dtype=np.int64)),
    )
    return _dense(graph, weights, f"{name}.output.dense", flat)


def _pool(graph: _Graph, hidden: str, mask: str) -> None:
    """Mean of the unmasked tokens, then unit length."""
    last = graph.constant("last", np.array([2], dtype=np.int64))
    tokens = graph.constant("token_axis", np.array([1], dtype=np.int64))
    weight = graph.add("Unsqueeze", "pool.mask", mask, last)
    total = graph.add("ReduceSum", "pool.sum", graph.add("Mul", "pool.masked", hidden, weight), tokens, keepdims=0)
    count = graph.add("ReduceSum", "pool.count", weight, tokens, keepdims=0)
    floor = graph.constant("pool.floor", np.array(MIN_TOKENS, dtype=np.float32))
    mean = graph.add("Div", "pool.mean", total, graph.add("Max", "pool.tokens", count, floor))
    norm = graph.add("ReduceL2", "pool.norm", mean, tokens, keepdims=1)
    smallest = graph.constant("pool.min_norm", np.array(MIN_NORM, dtype=np.float32))
    graph.add("Div", "embedding", mean, graph.add("Max", "pool.safe_norm", norm, smallest))
