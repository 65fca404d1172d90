"""A checkpoint folder as an OpenVINO model: quantised matrices, a KV cache that the model keeps.

The patterns are those that OpenVINO's CPU plugin joins into operators of its own: RMS norm, rotary
positions, attention over a cache, products with weights that stay quantised in memory.
"""

import json
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import Model, PartialShape, Tensor, Type
from openvino import opset14 as op
from openvino.op.util import Variable, VariableInfo

ROWS_AT_ONCE = 4096


class Checkpoint:
    """config.json and the tensors of model.safetensors, bfloat16 or float32, read as float32."""

    def __init__(self, folder: Path) -> None:
        self.config: dict = json.loads((folder / "config.json").read_text())
        path = folder / "model.safetensors"
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            self.header: dict = json.loads(file.read(length))
        self.bytes = np.memmap(path, np.uint8, mode="r", offset=8 + length)

    def has(self, name: str) -> bool:
        return name in self.header

    def shape(self, name: str) -> list[int]:
        return self.header[name]["shape"]

    def read(self, name: str, first: int = 0, count: int | None = None) -> np.ndarray:
        """The tensor as float32; of a matrix `count` rows from `first` on."""
        info = self.header[name]
        begin, end = info["data_offsets"]
        shape = info["shape"]
        if count is not None:
            row = (end - begin) // shape[0]
            begin, end = begin + first * row, begin + (first + count) * row
            shape = [count, shape[1]]
        data = self.bytes[begin:end]
        if info["dtype"] == "F32":
            return data.view(np.float32).reshape(shape)
        if info["dtype"] != "BF16":
            raise ValueError(f"{name} is {info['dtype']}; BF16 and F32 are read")
        return (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)


def quantize(values: np.ndarray, bits: int, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric integers and their half-precision scales, [rows, groups, group] and [rows, groups, 1]."""
    rows, columns = values.shape
    grouped = values.reshape(rows, columns // group, group)
    most = 2 ** (bits - 1) - 1
    scales = np.abs(grouped).max(axis=2, keepdims=True) / most
    scales = scales.astype(np.float16)
    safe = np.where(scales == 0, 1, scales).astype(np.float32)
    integers = np.clip(np.rint(grouped / safe), -most - 1, most).astype(np.int8)
    return integers, scales


def pack_nibbles(integers: np.ndarray) -> np.ndarray:
    """Two 4-bit values a byte, the even one in the low half."""
    nibbles = integers.reshape(-1, 2).view(np.uint8) & 15
    return nibbles[:, 0] | (nibbles[:, 1] << 4)


def constant(value: object, dtype: type = np.int64) -> ov.Node:
    return op.constant(np.array(value, dtype))


class Decoder:
    """Builds the graph; `group` values of a row share a scale."""

    def __init__(self, checkpoint: Checkpoint, bits: int, group: int) -> None:
        self.checkpoint = checkpoint
        self.bits = bits
        # A constant of 4 bits shares its memory with the array that it was made from.
        self.kept: list[np.ndarray] = []
        self.group = group
        config = checkpoint.config
        self.hidden: int = config["hidden_size"]
        self.heads: int = config["num_attention_heads"]
        self.kv_heads: int = config["num_key_value_heads"]
        self.head_dim = self.hidden // self.heads
        self.eps = np.float32(config["rms_norm_eps"])
        self.theta: float = config["rope_theta"]

    def matrix(self, name: str) -> ov.Node:
        """[out, in] as float32 out of quantised groups, which the plugin keeps as they are."""
        out, inner = self.checkpoint.shape(name)
        group = self.group if inner % self.group == 0 else 64
        parts, scale_parts = [], []
        for first in range(0, out, ROWS_AT_ONCE):
            rows = self.checkpoint.read(name, first, min(ROWS_AT_ONCE, out - first))
            integers, scales = quantize(rows, self.bits, group)
            parts.append(pack_nibbles(integers) if self.bits == 4 else integers)
            scale_parts.append(scales)
        shape = [out, inner // group, group]
        data = np.concatenate(parts)
        if self.bits == 4:
            self.kept.append(data)
            weights = op.constant(Tensor(data, ov.Shape(shape), Type.i4))
        else:
            weights = op.constant(data)
        scaled = op.multiply(op.convert(weights, Type.f16), op.constant(np.concatenate(scale_parts)))
        whole = op.reshape(scaled, constant([out, inner]), False)
        return op.convert(whole, Type.f32)

    def linear(self, x: ov.Node, name: str) -> ov.Node:
        y = op.matmul(x, self.matrix(f"{name}.weight"), False, True)
        if not self.checkpoint.has(f"{name}.bias"):
            return y
        bias = self.checkpoint.read(f"{name}.bias").reshape(1, 1, -1)
        return op.add(y, op.constant(bias))

    def norm(self, x: ov.Node, name: str) -> ov.Node:
        squares = op.power(x, constant(2, np.float32))
        mean = op.reduce_mean(squares, constant([-1]), True)
        root = op.sqrt(op.add(mean, op.constant(self.eps)))
        unit = op.multiply(x, op.divide(constant(1, np.float32), root))
        weight = self.checkpoint.read(f"{name}.weight").reshape(1, 1, -1)
        return op.multiply(unit, op.constant(weight))

    def split_heads(self, x: ov.Node, heads: int) -> ov.Node:
        """[batch, tokens, heads · dim] → [batch, heads, tokens, dim]."""
        shaped = op.reshape(x, constant([0, 0, heads, self.head_dim]), True)
        return op.transpose(shaped, constant([0, 2, 1, 3]))

    def angles(self, positions: ov.Node) -> tuple[ov.Node, ov.Node]:
        """cos and sin, [batch, 1, tokens, dim]."""
        exponents = np.arange(0, self.head_dim, 2, dtype=np.float32) / self.head_dim
        rates = (self.theta**-exponents).astype(np.float32).reshape(1, 1, -1)
        at = op.unsqueeze(op.convert(positions, Type.f32), constant([2]))
        half = op.multiply(at, op.constant(rates))
        whole = op.concat([half, half], -1)
        axis = constant([1])
        return op.unsqueeze(op.cos(whole), axis), op.unsqueeze(op.sin(whole), axis)

    def rotate(self, x: ov.Node, cos: ov.Node, sin: ov.Node) -> ov.Node:
        half = self.head_dim // 2
        parts = op.variadic_split(x, constant(3), constant([half, half]))
        turned = op.concat(
            [op.multiply(parts.output(1), constant(-1, np.float32)), parts.output(0)], 3
        )
        return op.add(op.multiply(x, cos), op.multiply(turned, sin))

    def build(self) -> Model:
        """ids and positions [batch, tokens], mask [batch, 1, tokens, past + tokens], rows [batch]."""
        ids = op.parameter([-1, -1], Type.i64, name="ids")
        positions = op.parameter([-1, -1], Type.i64, name="positions")
        mask = op.parameter([-1, 1, -1, -1], Type.f32, name="mask")
        rows = op.parameter([-1], Type.i32, name="beam_idx")
        batch = op.gather(op.shape_of(ids), constant([0]), constant(0))
        table = op.constant(self.checkpoint.read("model.embed_tokens.weight").astype(np.float16))
        x = op.gather(op.convert(table, Type.f32), ids, constant(0))
        cos, sin = self.angles(positions)
        sinks: list[ov.Node] = []
        repeats = self.heads // self.kv_heads

        def remember(name: str, new: ov.Node) -> ov.Node:
            """Appends to a cache whose rows `beam_idx` chooses; every head of a group sees the same."""
            empty_shape = op.concat([batch, constant([self.kv_heads, 0, self.head_dim])], 0)
            empty = op.broadcast(constant(0, np.float32), empty_shape)
            info = VariableInfo()
            info.data_shape = PartialShape([-1, self.kv_heads, -1, self.head_dim])
            info.data_type = Type.f32
            info.variable_id = name
            variable = Variable(info)
            past = op.gather(op.read_value(empty, variable), rows, constant(0))
            all_of = op.concat([past, new], -2)
            sinks.append(op.assign(all_of, variable))
            if repeats == 1:
                return all_of
            shape = op.shape_of(all_of)
            front = op.gather(shape, constant([0, 1]), constant(0))
            back = op.gather(shape, constant([2, 3]), constant(0))
            wide = op.concat([front, constant([repeats]), back], 0)
            spread = op.broadcast(
                op.unsqueeze(all_of, constant([2])), wide, broadcast_spec="BIDIRECTIONAL"
            )
            return op.reshape(spread, constant([0, self.heads, -1, self.head_dim]), True)

        for layer in range(self.checkpoint.config["num_hidden_layers"]):
            prefix = f"model.layers.{layer}"
            attention = f"{prefix}.self_attn"
            h = self.norm(x, f"{prefix}.input_layernorm")
            q = self.split_heads(self.linear(h, f"{attention}.q_proj"), self.heads)
            k = self.split_heads(self.linear(h, f"{attention}.k_proj"), self.kv_heads)
            v = self.split_heads(self.linear(h, f"{attention}.v_proj"), self.kv_heads)
            keys = remember(f"keys.{layer}", self.rotate(k, cos, sin))
            values = remember(f"values.{layer}", v)
            seen = op.scaled_dot_product_attention(
                self.rotate(q, cos, sin), keys, values, mask, causal=False
            )
            joined = op.reshape(
                op.transpose(seen, constant([0, 2, 1, 3])), constant([0, 0, self.hidden]), True
            )
            x = op.add(x, self.linear(joined, f"{attention}.o_proj"))
            h = self.norm(x, f"{prefix}.post_attention_layernorm")
            gate = op.swish(self.linear(h, f"{prefix}.mlp.gate_proj"))
            inner = op.multiply(gate, self.linear(h, f"{prefix}.mlp.up_proj"))
            x = op.add(x, self.linear(inner, f"{prefix}.mlp.down_proj"))
        last = op.gather(self.norm(x, "model.norm"), constant([-1]), constant(1))
        head = "lm_head" if self.checkpoint.has("lm_head.weight") else "model.embed_tokens"
        logits = op.result(self.linear(last, head), name="logits")
        return Model([logits], sinks, [ids, positions, mask, rows], "decoder")
