"""Text to vectors: the model folder and its verification, the ONNX Runtime backend, its lifecycle."""
