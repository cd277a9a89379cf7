"""The contract between the operator and the pods: documents, names, limits. All that the operator imports; no I/O."""
