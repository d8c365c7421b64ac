"""Kubernetes operator that carries out the incident runbook of KnowledgeBeast."""
