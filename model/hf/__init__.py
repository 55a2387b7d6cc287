"""Hugging Face folders: written so that `AutoModel*.from_pretrained` gives equal logits, and read back."""

from model.hf.families import auto_class
from model.hf.folder import export_hf, import_hf

__all__ = ["auto_class", "export_hf", "import_hf"]
