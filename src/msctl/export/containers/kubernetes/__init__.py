"""`kubernetes`: the system as a kustomize base, for Kubernetes 1.25 or newer."""

from msctl.export.containers.kubernetes.base import KIND

__all__ = ["KIND"]
