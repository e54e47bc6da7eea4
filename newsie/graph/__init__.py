"""The ONNX graph of a student: quantisation, weights, heads and metadata."""
