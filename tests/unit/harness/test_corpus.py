from harness.corpus import load_corpus


def test_every_question_has_its_document() -> None:
    corpus = load_corpus()
    documents = [document.id for document in corpus.documents]

    assert len(documents) == len(set(documents)) >= 30
    assert {question.document for question in corpus.questions} <= set(documents)
