"""Build the model folder from the pinned weights: `python service/tools/build_model.py --out DIR`.

The same as `knowledgebeast build-model`, for an image build stage that has the `model` dependency group.
"""

from knowledgebeast_service.embedding.build.command import main

if __name__ == "__main__":
    main()
