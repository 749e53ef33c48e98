"""Reads what people have (folders of pictures, tables, archives, DICOM) and writes it as one Parquet file."""

from deeptune.importing.importer import Imported, import_data
from deeptune.importing.options import Options

__all__ = ["Imported", "Options", "import_data"]
