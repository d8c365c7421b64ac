"""Turn the pinned MiniLM weights into the model folder that the service runs. Needs `onnx` and `safetensors`."""
