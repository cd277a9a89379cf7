"""The FineTuneJob resource as frozen pydantic models, its rules, and its CRD. No input or output, no slow imports."""
