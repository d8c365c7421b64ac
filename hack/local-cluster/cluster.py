#!/usr/bin/env python3
"""The local cluster: a real single-node Kubernetes on this machine. See --help, and README.md beside this file."""

import sys

from local_cluster.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
