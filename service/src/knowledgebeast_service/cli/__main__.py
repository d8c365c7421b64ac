"""`python -m knowledgebeast_service.cli`."""

from knowledgebeast_service.cli import main

if __name__ == "__main__":
    main()
